#!/usr/bin/env python3
"""Uses up one resource after the other inside a job, and prints the limit of each as JSON."""
import array
import ctypes
import errno
import json
import os
import shutil
import socket
import sys

# As root outside of a job this program would use up the resources of the machine.
if "JOB_ID" not in os.environ or os.getpid() > 100:
    sys.exit("fill.py uses up what it is given: it runs in a job only")

found = {}
libc = ctypes.CDLL(None, use_errno=True)


def until(deed, most):
    """Repeats a deed until it is refused; returns the number of successes and the name of the errno."""
    for count in range(most):
        try:
            deed(count)
        except OSError as error:
            return [count, errno.errorcode.get(error.errno, str(error))]
    return [most, ""]


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def bytes_of(place):
    path = place + "/bytes"
    with open(path, "wb", buffering=0) as file:
        found["bytes " + place] = until(lambda _: file.write(bytes(1 << 20)), 4096)
    os.unlink(path)


def inodes_of(place):
    os.mkdir(place + "/inodes")
    found["inodes " + place] = until(lambda n: os.close(os.open(f"{place}/inodes/{n}", os.O_CREAT)), 200_000)
    shutil.rmtree(place + "/inodes")


def files(places):
    # Bytes first, because names take space too.
    for place in places:
        bytes_of(place)
    with open(places[0] + "/sparse", "wb") as file:
        found["sparse"] = until(lambda _: os.truncate(file.fileno(), 1 << 60), 1)
        found["fallocate"] = until(lambda _: os.posix_fallocate(file.fileno(), 0, 1 << 40), 1)
    os.unlink(places[0] + "/sparse")
    for place in places:
        inodes_of(place)
    os.chdir(places[0])

    def deeper(_):
        os.mkdir("d")
        os.chdir("d")

    found["depth"] = until(deeper, 10_000)
    os.chdir("/work")


def descriptors():
    held = []
    found["descriptors"] = until(lambda _: held.append(os.dup(0)), 2_000_000)
    for fd in held:
        os.close(fd)
    # Descriptors in flight are in no table: the kernel counts them for the user (unix(7), ETOOMANYREFS).
    pairs = []

    def pass_on(_):
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        pairs.append((left, right))
        packed = array.array("i", [left.fileno()] * 250)
        left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])

    found["in flight"] = until(pass_on, 100_000)
    for left, right in pairs:
        left.close()
        right.close()


def objects():
    flags = os.O_CLOEXEC
    makers = {
        "eventfd": lambda _: held.append(checked(libc.eventfd(0, flags))),
        "epoll": lambda _: held.append(checked(libc.epoll_create1(flags))),
        "timerfd": lambda _: held.append(checked(libc.timerfd_create(1, flags))),
        "inotify": lambda _: held.append(checked(libc.inotify_init1(flags))),
        "pipe": lambda _: held.extend(os.pipe()),
        "memfd": lambda _: held.append(os.memfd_create("m")),
    }
    for name, make in makers.items():
        held = []
        found[name] = until(make, 2_000_000)
        for fd in held:
            os.close(fd)
    timer = ctypes.c_void_p()
    # A timer counts as one of the signals that may be pending (setrlimit(2), RLIMIT_SIGPENDING).
    found["timer"] = until(lambda _: checked(libc.timer_create(0, None, ctypes.byref(timer))), 1_000_000)
    found["semget"] = until(lambda _: checked(libc.semget(0, 1, 0o600)), 1_000_000)
    found["msgget"] = until(lambda _: checked(libc.msgget(0, 0o600)), 1_000_000)
    found["shmget"] = until(lambda _: checked(libc.shmget(0, 4096, 0o600)), 1_000_000)


# With arguments: these directories alone.
files(sys.argv[1:] or ["/work", "/tmp", "/dev/shm"])
if not sys.argv[1:]:
    descriptors()
    objects()
print(json.dumps(found))
