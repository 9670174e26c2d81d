#!/usr/bin/env python3
"""Watches and locks what it can reach of the files that it shares, until SIGTERM, then prints the events that came.

watch.py PATH...: inotify on each, and an exclusive flock. It says "watching" when all of that is in force. To show that
the watch works it executes /usr/bin/env itself at the end.
"""
import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import sys

# As root outside of a job it would lock the host's files.
if os.getpid() > 100:
    sys.exit("watch.py holds locks on its host: it runs in a job only")

IN_ALL = 0xFFF
IN_NONBLOCK = 0o4000
libc = ctypes.CDLL(None, use_errno=True)
queue = libc.inotify_init1(IN_NONBLOCK)
watched, held = {}, []
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
for path in sys.argv[1:]:
    number = libc.inotify_add_watch(queue, path.encode(), IN_ALL)
    if number < 0:
        sys.exit(f"{path}: {os.strerror(ctypes.get_errno())}")
    try:
        file = os.open(path, os.O_RDONLY)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        sys.exit(f"{path}: {error}")
    held.append(file)
    watched[number] = path


def events():
    """The names of the files of all events so far."""
    try:
        data = os.read(queue, 1 << 20)
    except BlockingIOError:
        return set()
    names, at = set(), 0
    while at < len(data):
        number, _, _, length = struct.unpack_from("iIII", data, at)
        name = data[at + 16:at + 16 + length].rstrip(b"\0").decode()
        names.add(os.path.join(watched[number], name))
        at += 16 + length
    return names


# Its own opening of the files is over now.
events()
print("watching", flush=True)
signal.sigwait([signal.SIGTERM])
seen = events()
subprocess.run(["/usr/bin/env", "true"], check=True)
print("own:", "/usr/bin/env" in events())
print("others:", *sorted(seen))
