#!/usr/bin/env python3
"""One part of a web server's access log: which clients look for what is not theirs.

    python3 shard.py FILE PARTS     the part is that of JOB_ARRAY_INDEX
    python3 shard.py FILE           only checks that the file can be read
"""
import collections
import os
import re
import sys

LINE = re.compile(r'(\S+) \S+ \S+ \[[^]]+\] "(\S+) (\S+) [^"]*" (\d{3}) ')


def main(path, parts=0):
    with open(path, encoding="utf-8", errors="replace") as log:
        lines = log.read().splitlines()
    if not parts:
        readable = sum(1 for line in lines if LINE.match(line))
        print(f"{readable} of {len(lines)} lines are requests")
        return 0 if readable else 1
    index = int(os.environ["JOB_ARRAY_INDEX"])
    probes = collections.Counter()
    for line in lines[index::parts]:
        match = LINE.match(line)
        if match and match[4] in ("400", "403", "404"):
            probes[match[1]] += 1
    print(f"part {index} of {parts}: {len(lines[index::parts])} lines, {sum(probes.values())} refused requests")
    for client, count in probes.most_common(3):
        print(f"  {client} {count}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
