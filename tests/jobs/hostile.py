#!/usr/bin/env python3
"""A hostile job. It makes one forbidden attempt after the other and prints each result; exit code 1 if any worked."""
import ctypes
import os
import socket
import sys

# As root outside of a job the attempts below would succeed and damage the machine.
if "JOB_ID" not in os.environ or os.getpid() > 100:
    sys.exit("hostile.py attacks its host: it runs in a job only")

libc = ctypes.CDLL(None, use_errno=True)
worked = []


def call(name, *args):
    if getattr(libc, name)(*args) == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def attempt(what, deed):
    try:
        got = deed()
    except OSError as error:
        print(f"  {what:58} {error.strerror}")
    else:
        if got is False:
            print(f"  {what:58} nothing there")
            return
        worked.append(what)
        print(f"  {what:58} IT WORKED: {got!r}")


def read(path):
    with open(path, "rb") as file:
        return file.read(64)


def write(path, text):
    with open(path, "wb", buffering=0) as file:
        file.write(text)


def other_processes():
    mine = {"1", str(os.getpid())}
    return sorted(set(filter(str.isdigit, os.listdir("/proc"))) - mine) or False


def connect(host, port):
    with socket.create_connection((host, port), timeout=2):
        return f"connected to {host}:{port}"


def kill_everybody():
    # Signal 0 tests without harm whether this job may kill any process besides itself and its init.
    os.kill(-1, 0)
    return "there is somebody to kill"


def leave_root():
    before, above = os.listdir("/"), os.open("/", os.O_RDONLY)
    os.mkdir("/tmp/below")
    os.chroot("/tmp/below")
    os.fchdir(above)
    for _ in range(100):
        os.chdir("..")
    os.chroot(".")
    return os.listdir("/") != before


print("reading what is not mine:")
for path in ("/etc/shadow", "/root/.ssh/id_rsa", "/proc/kcore", "/proc/1/environ", "/dev/mem", "/opt/joblet/config/joblet-config.yml"):
    attempt(f"read {path}", lambda: read(path) or False)
attempt("list other processes", other_processes)
print("changing the machine:")
for path, text in (("/proc/sys/kernel/core_pattern", b"|/work/evil"), ("/proc/sysrq-trigger", b"b"),
                   ("/usr/bin/evil", b"x"), ("/etc/passwd", b"evil::0:0::/:/bin/sh\n")):
    attempt(f"write {path}", lambda: write(path, text))
attempt("mount a tmpfs over /usr", lambda: call("mount", b"none", b"/usr", b"tmpfs", 0, None))
attempt("make the root writable again", lambda: call("mount", None, b"/", None, 32 | 4096, None))
attempt("make a disk device", lambda: os.mknod("/tmp/disk", 0o060600, os.makedev(8, 0)))
attempt("change the host name", lambda: socket.sethostname("evil"))
print("getting more rights:")
# A container has users and roots of its own, and goes no further.
ids = int(open("/proc/self/uid_map").read().split()[2])
attempt("become another user", lambda: os.setresuid(ids, ids, ids))
attempt("make a namespace where I am root", lambda: call("unshare", 0x10000000))
attempt("leave through chroot", lambda: leave_root() if ids > 1 else os.chroot("/tmp"))
attempt("trace my init", lambda: call("ptrace", 16, 1, 0, 0))
print("reaching others:")
attempt("kill everybody", kill_everybody)
attempt("connect to the daemon on 127.0.0.1:50051", lambda: connect("127.0.0.1", 50051))
attempt("connect to the cloud's metadata at 169.254.169.254", lambda: connect("169.254.169.254", 80))
attempt("open a raw network socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close())
print(f"{len(worked)} of these worked" if worked else "nothing of this worked")
raise SystemExit(1 if worked else 0)
