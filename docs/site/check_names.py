#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# check_names.py <Doxygen's XML> <top of the repository>: each public name says what it does; each class, concept, enum and function
# shows an example (a member may leave that to its class). What stands behind a comment `// internal` is no public name, nor are
# the members that a standard concept asks for.
import glob
import os
import re
import sys
import xml.etree.ElementTree as ET

xml, top = sys.argv[1:]
STANDARD = re.compile(r'^(operator.*|.*_type|pointer|reference|(reverse_)?iterator(_concept|_category)?)$')
missing = []
names = 0


def text(node):
    return ''.join(node.itertext()).strip() if node is not None else ''


def described(node):
    return bool(text(node.find('briefdescription')) or text(node.find('detaileddescription')) or text(node.find('inbodydescription')))


def shows(node):
    return any(True for _ in node.find('detaileddescription').iter('programlisting'))


def internal(node):
    """Whether the declaration's paragraph of the header begins with a comment `// internal`."""
    where = node.find('location')
    lines = open(os.path.join(top, os.path.relpath(where.get('file'), top) if os.path.isabs(where.get('file')) else where.get('file')))
    lines = lines.read().split('\n')
    at = int(where.get('line')) - 1
    while at > 0 and lines[at].strip():
        at -= 1
        if re.match(r'\s*//+ internal', lines[at]):
            return True
    return bool(re.match(r'\s*// internal', lines[at - 1]))


def look(node, name, example):
    global names
    if internal(node):
        return
    names += 1
    if not described(node):
        missing.append(f'{name}: does not say what it is')
    elif example and not shows(node):
        missing.append(f'{name}: shows no example')


for file in sorted(glob.glob(os.path.join(xml, '*.xml'))):
    for compound in ET.parse(file).getroot().findall('compounddef'):
        kind, name = compound.get('kind'), compound.findtext('compoundname')
        if kind not in ('class', 'struct', 'namespace', 'concept') or 'detail' in name or not name.startswith('brood'):
            continue
        inner = name.count('::') > 1 or compound.get('prot') == 'private'
        if kind != 'namespace':
            if compound.get('prot') == 'private':
                continue
            look(compound, name, not inner and not (name.startswith('brood::Serializer<') and '/types/' not in compound.find('location').get('file')))
        told = {m.findtext('name') for m in compound.iter('memberdef') if described(m)}  # one overload speaks for the others
        for member in compound.iter('memberdef'):
            own = member.findtext('name')
            signature = text(member.find('argsstring'))
            if member.get('prot') != 'public' or signature.endswith(('=default', '=delete')) or member.get('kind') == 'friend':
                continue
            if kind != 'namespace' and (STANDARD.match(own) or own == name.split('::')[-1].split('<')[0] and '&&other' in signature):
                continue
            if name.startswith('brood::Serializer') or '->' in signature and own == 'SharedArray':
                continue
            if name.endswith('Serializer') and own in ('read', 'write'):
                continue
            if described(member) or own not in told:
                look(member, f'{name}::{own}{signature}', kind == 'namespace')

print(f'{names} public names looked at')
for each in missing:
    print(each)
sys.exit(bool(missing))
