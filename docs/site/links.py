#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# links.py <the site> <top of the repository>: links of the site lead somewhere. A page's Markdown links to files of the repository,
# as a code-hosting site wants it, which Doxygen leaves as they are: such a file is copied beside the pages, and the link follows;
# a link to a heading of another page leads to Doxygen's anchor. A relative link to a file that does not exist is then an error.
import glob
import html
import os
import re
import shutil
import sys
from urllib.parse import unquote

site, top = sys.argv[1:]
LINK = re.compile(r'(\b(?:href|src)=")([^"]*)(")')
HEADING = re.compile(r'<h\d>\s*<a class="anchor" id="([^"]*)"></a>\s*(.*?)</h\d>', re.S)


def plain(name):
    """The name of a page, whatever this Doxygen makes of / and - in it."""
    return re.sub(r'_2|[^A-Za-z0-9]', '', name)


pages = {file: open(file, encoding='utf-8', errors='surrogateescape').read()
         for file in sorted(glob.glob(os.path.join(site, '**', '*.html'), recursive=True))}
by_name = {plain(os.path.relpath(file, site)[:-len('.html')]): file for file in pages}
sources = {os.path.join(site, 'index.html'): 'README.md'}  # page -> its Markdown
for folder in ('', 'docs', 'examples'):
    for file in glob.glob(os.path.join(top, folder, '**' if folder else '', '*.md'), recursive=True):
        source = os.path.relpath(file, top)
        if source != 'README.md' and plain('md_' + source[:-len('.md')]) in by_name:
            sources[by_name[plain('md_' + source[:-len('.md')])]] = source
page_of = {source: page for page, source in sources.items()}


def target(link):
    """The file that a relative link names, and what follows; None for others."""
    link = html.unescape(link)
    if re.match(r'[A-Za-z][A-Za-z0-9+.-]*:|//|#|$', link):
        return None
    name = re.split(r'[#?]', link, maxsplit=1)[0]
    return (unquote(name), link[len(name):]) if name else None


def there(page, name):
    return os.path.exists(os.path.join(os.path.dirname(page), name))


def anchor(page, slug):
    for name, heading in HEADING.findall(pages[page]):
        words = html.unescape(re.sub(r'<[^>]*>', '', heading)).strip().lower()
        if re.sub(r'[^\w\- ]', '', words).replace(' ', '-') == slug:
            return name
    return None


def mended(page, link):
    found = target(link)
    if not found or there(page, found[0]) or page not in sources:
        return link
    name, rest = found
    file = os.path.normpath(os.path.join(os.path.dirname(sources[page]), name))
    if file in page_of:
        name = os.path.basename(page_of[file])
        if not rest:
            return name
        place = anchor(page_of[file], rest[1:])
        return f'{name}#{place}' if place else link
    if file.startswith('..') or not os.path.isfile(os.path.join(top, file)):
        return link
    beside = os.path.join(site, os.path.basename(file))
    if copied.setdefault(beside, file) != file or beside in before:
        return link  # two files have one name
    shutil.copyfile(os.path.join(top, file), beside)
    return os.path.basename(file) + rest


copied = {}
# what an earlier run copied: Doxygen leaves in its folder what it did not make
listing = os.path.join(site, '.copied')
if os.path.exists(listing):
    for file in open(listing).read().split('\n'):
        if file and os.path.exists(os.path.join(site, file)):
            os.remove(os.path.join(site, file))
before = set(glob.glob(os.path.join(site, '*')))
bad = []
links = 0
for page, text in pages.items():
    new = LINK.sub(lambda m: m[1] + mended(page, m[2]) + m[3], text)
    if new != text:
        open(page, 'w', encoding='utf-8', errors='surrogateescape').write(new)
        pages[page] = new
with open(listing, 'w') as out:
    out.writelines(os.path.basename(file) + '\n' for file in sorted(copied))
for page, text in pages.items():
    for link in (m[2] for m in LINK.finditer(text)):
        found = target(link)
        links += found is not None
        if found and not there(page, found[0]):
            bad.append(f'{os.path.relpath(page, site)}: a link to nowhere: {link}')

print('\n'.join(dict.fromkeys(bad)) or f'{links} links looked at')
sys.exit(1 if bad or not links else 0)
