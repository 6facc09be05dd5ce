// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstddef>

namespace brood::inline v0_1::detail {

/// What is known about the members of an aggregate: their declared types (const and & stay), and whether each has an
/// address, which a bit-field has not.
template <bool Addressable, class... Ms>
struct Members {
  static constexpr bool addressable = Addressable;
  static constexpr std::size_t count = sizeof...(Ms);
};

void addresses(auto&...);

/// Aggregates of more members are refused.
inline constexpr std::size_t max_members = 32;

/// Calls `visit(Members<...>{}, m...)` with the `N` members of an aggregate. The compiler checks `N`: a structured
/// binding with a wrong number of names does not compile, so a miscounted aggregate can't lose a member in silence.
/// Before C++26 the names can't be a pack, hence the staircase.
template <std::size_t N, class Aggregate, class Visit>
constexpr decltype(auto) with_members(Aggregate& value, Visit&& visit) {
  static_assert(N >= 1 && N <= max_members);
  if constexpr (N == 1) {
    auto& [a] = value;
    return visit(Members<requires { addresses(a); }, decltype(a)>{}, a);
  } else if constexpr (N == 2) {
    auto& [a, b] = value;
    return visit(Members<requires { addresses(a, b); }, decltype(a), decltype(b)>{}, a, b);
  } else if constexpr (N == 3) {
    auto& [a, b, c] = value;
    return visit(Members<requires { addresses(a, b, c); }, decltype(a), decltype(b), decltype(c)>{}, a, b, c);
  } else if constexpr (N == 4) {
    auto& [a, b, c, d] = value;
    return visit(Members<requires { addresses(a, b, c, d); }, decltype(a), decltype(b), decltype(c), decltype(d)>{}, a,
                 b, c, d);
  } else if constexpr (N == 5) {
    auto& [a, b, c, d, e] = value;
    return visit(Members<requires {
                   addresses(a, b, c, d, e);
                 }, decltype(a), decltype(b), decltype(c), decltype(d), decltype(e)>{}, a, b, c, d, e);
  } else if constexpr (N == 6) {
    auto& [a, b, c, d, e, f] = value;
    return visit(Members<requires {
                   addresses(a, b, c, d, e, f);
                 }, decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f)>{}, a, b, c, d, e, f);
  } else if constexpr (N == 7) {
    auto& [a, b, c, d, e, f, g] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g); }, decltype(a), decltype(b), decltype(c),
                         decltype(d), decltype(e), decltype(f), decltype(g)>{},
                 a, b, c, d, e, f, g);
  } else if constexpr (N == 8) {
    auto& [a, b, c, d, e, f, g, h] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h); }, decltype(a), decltype(b), decltype(c),
                         decltype(d), decltype(e), decltype(f), decltype(g), decltype(h)>{},
                 a, b, c, d, e, f, g, h);
  } else if constexpr (N == 9) {
    auto& [a, b, c, d, e, f, g, h, i] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h, i); }, decltype(a), decltype(b), decltype(c),
                         decltype(d), decltype(e), decltype(f), decltype(g), decltype(h), decltype(i)>{},
                 a, b, c, d, e, f, g, h, i);
  } else if constexpr (N == 10) {
    auto& [a, b, c, d, e, f, g, h, i, j] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h, i, j); }, decltype(a), decltype(b), decltype(c),
                         decltype(d), decltype(e), decltype(f), decltype(g), decltype(h), decltype(i), decltype(j)>{},
                 a, b, c, d, e, f, g, h, i, j);
  } else if constexpr (N == 11) {
    auto& [a, b, c, d, e, f, g, h, i, j, k] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k); }, decltype(a), decltype(b),
                         decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h), decltype(i),
                         decltype(j), decltype(k)>{},
                 a, b, c, d, e, f, g, h, i, j, k);
  } else if constexpr (N == 12) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l); }, decltype(a), decltype(b),
                         decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h), decltype(i),
                         decltype(j), decltype(k), decltype(l)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l);
  } else if constexpr (N == 13) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l, m); }, decltype(a), decltype(b),
                         decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h), decltype(i),
                         decltype(j), decltype(k), decltype(l), decltype(m)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m);
  } else if constexpr (N == 14) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n); }, decltype(a), decltype(b),
                         decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h), decltype(i),
                         decltype(j), decltype(k), decltype(l), decltype(m), decltype(n)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n);
  } else if constexpr (N == 15) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o); }, decltype(a), decltype(b),
                         decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h), decltype(i),
                         decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o);
  } else if constexpr (N == 16) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = value;
    return visit(
        Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p); }, decltype(a), decltype(b),
                decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h), decltype(i), decltype(j),
                decltype(k), decltype(l), decltype(m), decltype(n), decltype(o), decltype(p)>{},
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p);
  } else if constexpr (N == 17) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q] = value;
    return visit(
        Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q); }, decltype(a), decltype(b),
                decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h), decltype(i), decltype(j),
                decltype(k), decltype(l), decltype(m), decltype(n), decltype(o), decltype(p), decltype(q)>{},
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q);
  } else if constexpr (N == 18) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r); }, decltype(a),
                         decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h),
                         decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o),
                         decltype(p), decltype(q), decltype(r)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r);
  } else if constexpr (N == 19) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s); }, decltype(a),
                         decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h),
                         decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o),
                         decltype(p), decltype(q), decltype(r), decltype(s)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s);
  } else if constexpr (N == 20) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t); },
                         decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
                         decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n),
                         decltype(o), decltype(p), decltype(q), decltype(r), decltype(s), decltype(t)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t);
  } else if constexpr (N == 21) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u] = value;
    return visit(Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u); },
                         decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
                         decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n),
                         decltype(o), decltype(p), decltype(q), decltype(r), decltype(s), decltype(t), decltype(u)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u);
  } else if constexpr (N == 22) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v] = value;
    return visit(
        Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v); }, decltype(a),
                decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h), decltype(i),
                decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o), decltype(p), decltype(q),
                decltype(r), decltype(s), decltype(t), decltype(u), decltype(v)>{},
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v);
  } else if constexpr (N == 23) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w] = value;
    return visit(
        Members<requires { addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w); },
                decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h),
                decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o), decltype(p),
                decltype(q), decltype(r), decltype(s), decltype(t), decltype(u), decltype(v), decltype(w)>{},
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w);
  } else if constexpr (N == 24) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x] = value;
    return visit(Members<requires {
                   addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x);
                 }, decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
                         decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n),
                         decltype(o), decltype(p), decltype(q), decltype(r), decltype(s), decltype(t), decltype(u),
                         decltype(v), decltype(w), decltype(x)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x);
  } else if constexpr (N == 25) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y] = value;
    return visit(Members<requires {
                   addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y);
                 }, decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
                         decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n),
                         decltype(o), decltype(p), decltype(q), decltype(r), decltype(s), decltype(t), decltype(u),
                         decltype(v), decltype(w), decltype(x), decltype(y)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y);
  } else if constexpr (N == 26) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z] = value;
    return visit(Members<requires {
                   addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z);
                 }, decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
                         decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n),
                         decltype(o), decltype(p), decltype(q), decltype(r), decltype(s), decltype(t), decltype(u),
                         decltype(v), decltype(w), decltype(x), decltype(y), decltype(z)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z);
  } else if constexpr (N == 27) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa] = value;
    return visit(Members<requires {
                   addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa);
                 }, decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
                         decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n),
                         decltype(o), decltype(p), decltype(q), decltype(r), decltype(s), decltype(t), decltype(u),
                         decltype(v), decltype(w), decltype(x), decltype(y), decltype(z), decltype(aa)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa);
  } else if constexpr (N == 28) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb] = value;
    return visit(Members<requires {
                   addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb);
                 }, decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
                         decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n),
                         decltype(o), decltype(p), decltype(q), decltype(r), decltype(s), decltype(t), decltype(u),
                         decltype(v), decltype(w), decltype(x), decltype(y), decltype(z), decltype(aa), decltype(bb)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb);
  } else if constexpr (N == 29) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc] = value;
    return visit(
        Members<requires {
          addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc);
        }, decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h),
                decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o), decltype(p),
                decltype(q), decltype(r), decltype(s), decltype(t), decltype(u), decltype(v), decltype(w), decltype(x),
                decltype(y), decltype(z), decltype(aa), decltype(bb), decltype(cc)>{},
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc);
  } else if constexpr (N == 30) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd] = value;
    return visit(
        Members<requires {
          addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd);
        }, decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h),
                decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o), decltype(p),
                decltype(q), decltype(r), decltype(s), decltype(t), decltype(u), decltype(v), decltype(w), decltype(x),
                decltype(y), decltype(z), decltype(aa), decltype(bb), decltype(cc), decltype(dd)>{},
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd);
  } else if constexpr (N == 31) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd, ee] = value;
    return visit(
        Members<requires {
          addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd, ee);
        }, decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g), decltype(h),
                decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o), decltype(p),
                decltype(q), decltype(r), decltype(s), decltype(t), decltype(u), decltype(v), decltype(w), decltype(x),
                decltype(y), decltype(z), decltype(aa), decltype(bb), decltype(cc), decltype(dd), decltype(ee)>{},
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd, ee);
  } else if constexpr (N == 32) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd, ee, ff] =
        value;
    return visit(Members<requires {
                   addresses(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc,
                             dd, ee, ff);
                 }, decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
                         decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n),
                         decltype(o), decltype(p), decltype(q), decltype(r), decltype(s), decltype(t), decltype(u),
                         decltype(v), decltype(w), decltype(x), decltype(y), decltype(z), decltype(aa), decltype(bb),
                         decltype(cc), decltype(dd), decltype(ee), decltype(ff)>{},
                 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd, ee, ff);
  }
}

}  // namespace brood::detail
