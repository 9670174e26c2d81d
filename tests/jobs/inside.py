#!/usr/bin/env python3
"""Inspects a job from inside and prints one JSON object with all facts that the tests check."""
import errno
import json
import os
import socket
import sys

# As root outside of a job the attempts below would succeed and damage the machine.
if "JOB_ID" not in os.environ or os.getpid() > 100:
    sys.exit("inside.py attacks its host: it runs in a job only")

found = {}


def outcome(deed):
    """The value that a deed returns, or the name of the errno."""
    try:
        return deed()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))


def read(path, size=4096):
    def deed():
        with open(path, "rb") as file:
            return file.read(size).decode("utf-8", "replace")
    return outcome(deed)


def write(path, text="1"):
    def deed():
        fd = os.open(path, os.O_WRONLY)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
        return "WRITTEN"
    return outcome(deed)


def create(path):
    def deed():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        return "CREATED"
    return outcome(deed)


def connect(family, address):
    def deed():
        with socket.socket(family, socket.SOCK_STREAM) as end:
            end.settimeout(3)
            end.connect(address)
            return "CONNECTED"
    return outcome(deed)


# The descriptor of listdir's own directory is closed when it returns; readlink tells it from the rest.
descriptors = {}
for fd in os.listdir("/proc/self/fd"):
    target = outcome(lambda: os.readlink(f"/proc/self/fd/{fd}"))
    if target != "ENOENT":
        descriptors[fd] = target
found["descriptors"] = descriptors
found["cwd"] = os.getcwd()
found["status"] = dict(line.split(":\t", 1) for line in read("/proc/self/status", 1 << 16).splitlines() if ":\t" in line)
found["uid_map"] = read("/proc/self/uid_map").split()
found["ids"] = [os.getuid(), os.geteuid(), os.getgid(), os.getegid()]
found["groups"] = os.getgroups()
found["root"] = sorted(os.listdir("/"))
found["mounts"] = read("/proc/self/mountinfo", 1 << 20).splitlines()
found["cgroup"] = read("/proc/self/cgroup").split()
found["hostname"] = socket.gethostname()
found["environment"] = dict(os.environ)
found["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
found["interfaces"] = sorted(name for _, name in socket.if_nameindex())
found["routes"] = read("/proc/net/route").splitlines()[1:]
found["namespaces"] = {kind: outcome(lambda: os.readlink(f"/proc/self/ns/{kind}"))
                       for kind in ("pid", "mnt", "ipc", "uts", "net", "user", "cgroup")}
found["devices"] = sorted(os.listdir("/dev"))
found["sid_is_own"] = os.getsid(0) not in (0,)

found["read"] = {path: read(path) for path in (
    "/etc/shadow", "/etc/gshadow", "/root/.ssh/id_rsa", "/home", "/dev/kmsg", "/dev/mem", "/dev/port", "/dev/sda", "/dev/vda",
    "/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/key-users", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/interrupts", "/proc/sysrq-trigger",
    "/proc/1/mem", "/proc/1/maps", "/proc/1/exe", "/proc/1/status", "/proc/1/environ", "/proc/1/cmdline", "/proc/1/cgroup",
    "/sys/firmware", "/sys/devices/virtual/powercap", "/proc/vmallocinfo", "/proc/slabinfo", "/proc/kpagecount")}
found["list"] = {path: outcome(lambda: os.listdir(path)) for path in (
    "/sys", "/sys/firmware", "/proc/acpi", "/proc/asound", "/proc/scsi", "/proc/1", "/proc/1/fd", "/proc/1/ns", "/proc/1/root", "/proc/1/cwd",
    "/root", "/home", "/opt", "/var", "/run", "/mnt", "/.oldroot", "/.old", "/oldroot", "/lost+found")}
found["kallsyms"] = read("/proc/kallsyms", 4096)
found["write"] = {path: write(path) for path in (
    "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname", "/proc/sys/kernel/panic", "/proc/sys/fs/binfmt_misc/register", "/proc/sys/net/ipv4/ip_forward",
    "/proc/irq/0/smp_affinity", "/proc/bus/pci/00/00.0", "/proc/fs/ext4", "/proc/self/oom_score_adj", "/proc/1/oom_score_adj",
    "/proc/1/autogroup", "/proc/1/task/1/timerslack_ns", "/proc/1/mem", "/proc/1/comm", "/proc/self/uid_map", "/proc/self/setgroups", "/sys/kernel/uevent_helper", "/sys/power/state",
    "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory.max", "/sys/kernel/mm/transparent_hugepage/enabled",
    "/usr/bin/env", "/bin/sh", "/etc/passwd", "/etc/hosts", "/etc/resolv.conf", "/proc/1/exe", "/proc/self/exe")}
found["create"] = {path: create(f"{path}/joblet-test") for path in (
    "/", "/usr", "/usr/bin", "/etc", "/dev", "/proc", "/sys", "/var", "/lib", "/tmp", "/work", "/dev/shm", "/volumes")}
found["connect"] = {
    "daemon": connect(socket.AF_INET, ("127.0.0.1", int(os.environ.get("DAEMON_PORT", "50051")))),
    "daemon6": connect(socket.AF_INET6, ("::1", int(os.environ.get("DAEMON_PORT", "50051")))),
    "metadata": connect(socket.AF_INET, ("169.254.169.254", 80)),
    "private": connect(socket.AF_INET, ("10.0.0.1", 80)),
    "public": connect(socket.AF_INET, ("192.0.2.1", 80)),
    "link_local6": connect(socket.AF_INET6, ("fe80::1", 80)),
    "abstract": connect(socket.AF_UNIX, "\0joblet-test-abstract"),
}


def loopback():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname(), 3) as end:
        end.sendall(b"x")
        return "UP"


found["loopback"] = outcome(loopback)
found["kill_all"] = outcome(lambda: os.kill(-1, 0))
json.dump(found, sys.stdout)
