#!/usr/bin/env python3
"""One part of a web server's access log: its requests by page and the clients that look for what is not theirs.

    python3 shard.py FILE PARTS     the part is that of JOB_ARRAY_INDEX; it is left in part.json
    python3 shard.py FILE           only checks that the file can be read
"""
import collections
import json
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
    pages, probes = collections.Counter(), collections.Counter()
    for match in filter(None, map(LINE.match, lines[index::parts])):
        client, _, target, status = match.groups()
        pages[target.split("?")[0]] += 1
        if status in ("400", "403", "404"):
            probes[client] += 1
    with open("part.json", "w", encoding="utf-8") as part:
        json.dump({"pages": pages, "probes": probes}, part)
    print(f"part {index} of {parts}: {sum(pages.values())} requests, {sum(probes.values())} refused")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
