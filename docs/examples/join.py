#!/usr/bin/env python3
"""The report on an access log, from the parts that shard.py has left: the array's files are at parts/NUMBER/part.json."""
import collections
import glob
import json
import sys


def main():
    found = sorted(glob.glob("parts/*/part.json"))
    pages, probes = collections.Counter(), collections.Counter()
    for path in found:
        with open(path, encoding="utf-8") as part:
            counts = json.load(part)
        pages.update(counts["pages"])
        probes.update(counts["probes"])
    print(f"{sum(pages.values())} requests in {len(found)} parts\n\nbusiest pages")
    for page, count in pages.most_common(5):
        print(f"  {count:5} {page}")
    print("\nclients that asked for what is not there")
    for client, count in probes.most_common(3):
        print(f"  {count:5} {client}")
    return 0 if pages else 1


if __name__ == "__main__":
    sys.exit(main())
