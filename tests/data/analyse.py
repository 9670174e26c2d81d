#!/usr/bin/env python3
"""Summarises a day of a web server's access log: traffic by hour, errors, busiest pages, suspicious clients."""
import collections
import re
import sys

LINE = re.compile(r'(\S+) \S+ \S+ \[\d+/\w+/\d+:(\d\d):[^]]*\] "(\S+) (\S+) [^"]*" (\d{3}) (\d+|-) "[^"]*" "([^"]*)"')


def main(path):
    hours, pages, failures = collections.Counter(), collections.Counter(), collections.Counter()
    probes, clients, octets, unreadable = collections.Counter(), set(), 0, 0
    with open(path, encoding="utf-8", errors="replace") as log:
        for number, line in enumerate(log, 1):
            match = LINE.match(line)
            if not match:
                unreadable += 1
                continue
            client, hour, method, target, status, size, _ = match.groups()
            clients.add(client)
            hours[int(hour)] += 1
            pages[target.split("?")[0]] += 1
            octets += 0 if size == "-" else int(size)
            if status[0] == "5":
                failures[f"{status} {method} {target}"] += 1
            if status in ("400", "403", "404"):
                probes[client] += 1
            if number % 500 == 0:
                print(f"read {number} lines", flush=True)
    total = sum(hours.values())
    print(f"{total} requests from {len(clients)} clients, {octets / 1e6:.1f} MB, {unreadable} unreadable lines\n")
    print("requests by hour")
    for hour in range(24):
        if hours[hour]:
            print(f"  {hour:02d} {'#' * (hours[hour] * 50 // max(hours.values())):50} {hours[hour]}")
    print("\nbusiest pages")
    for page, count in pages.most_common(5):
        print(f"  {count:5} {page}")
    print("\nserver errors")
    for what, count in failures.most_common(5):
        print(f"  {count:5} {what}")
    print("\nclients that asked for what is not there")
    for client, count in probes.most_common(3):
        print(f"  {count:5} {client}")
    return 1 if unreadable else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
