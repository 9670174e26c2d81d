"""Tries what a job of the profile "container" may do with its own ids, and what no job may. Prints "what: answer" on each line;
the answer of a refused call is the name of its errno. Arguments: the chapter, and what it needs."""
import ctypes
import errno
import os
import resource
import signal
import socket
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)


def say(what, doing):
    try:
        answer = doing()
        print(f"{what}: {'done' if answer is None else answer}", flush=True)
    except OSError as why:
        print(f"{what}: {errno.errorcode[why.errno]}", flush=True)


def raw(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def as_user(uid, gid, groups, doing):
    """The answer of doing() in a child of these ids."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            answer = str(doing())
        except OSError as why:
            answer = errno.errorcode[why.errno]
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    answer = os.read(read, 4096).decode()
    os.close(read)
    os.waitpid(child, 0)
    return answer


def ids():
    return f"{os.getresuid()} {os.getresgid()} {os.getgroups()}"


def capabilities(sets=("CapPrm", "CapEff")):
    status = open("/proc/self/status").read()
    return " ".join(status.split(name + ":")[1].split()[0] for name in sets)


def sleeper(uid):
    # The exec closes the pipe: by then the ids are its own.
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        except OSError:
            pass
        os.execvp("sleep", ["sleep", "1000"])
    os.close(write)
    os.read(read, 1)
    os.close(read)
    return child


def end(child):
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def make(path, uid, gid, mode):
    with open(path, "w") as file:
        file.write("x")
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    found = os.stat(path)
    return f"{found.st_uid} {found.st_gid} {stat.S_IMODE(found.st_mode):o}"


def put(path, text):
    """In one write, so that its answer is heard."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def may():
    """What an image expects to be able to do."""
    say("capabilities", lambda: capabilities(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")))
    say("become a user", lambda: as_user(999, 998, [27, 65533], ids))
    say("become the last", lambda: as_user(65535, 65535, [], ids))
    say("capabilities of a user", lambda: as_user(999, 999, [], capabilities))
    say("a user comes back", lambda: as_user(999, 999, [], lambda: os.setuid(0)))
    say("give a file away", lambda: make("/work/given", 999, 998, 0o600))
    say("read it all the same", lambda: open("/work/given").read())
    say("a user reads its own", lambda: as_user(999, 999, [], lambda: open("/work/given").read()))
    say("another does not", lambda: as_user(998, 997, [], lambda: open("/work/given").read()))
    say("keep the bits of a group", lambda: make("/work/bits", 999, 998, 0o6755))
    say("kill a user's process", lambda: end(sleeper(999)))
    root = os.getpid()
    say("a user kills root's", lambda: as_user(999, 999, [], lambda: os.kill(root, signal.SIGKILL)))
    other = sleeper(998)
    say("a user kills another's", lambda: as_user(999, 999, [], lambda: os.kill(other, signal.SIGKILL)))
    end(other)
    listener = socket.socket()
    say("serve port 80", lambda: listener.bind(("127.0.0.1", 80)))
    os.makedirs("/work/root/inner")

    def rooted():
        os.chroot("/work/root")
        os.chdir("/")
        return os.listdir("/")

    say("another root", lambda: as_user(0, 0, [], rooted))
    say("drop a capability", lambda: raw("prctl", 24, 0, 0, 0, 0))
    say("bounding set", lambda: capabilities(("CapBnd",)))


def may_not(canary, pid):
    """What no job may do, whichever capabilities it has over its own ids."""
    say("become one more", lambda: as_user(65536, 0, [], ids))
    say("become a group more", lambda: as_user(0, 65536, [], ids))
    say("give to one more", lambda: make("/work/more", 65536, -1, 0o600))
    for name in sorted(os.listdir(canary)):
        path = f"{canary}/{name}"
        say(f"read {name}", lambda: open(path).read())
        say(f"own {name}", lambda: os.chown(path, 0, 0))
        say(f"open up {name}", lambda: os.chmod(path, 0o777))
        say(f"write {name}", lambda: open(path, "a"))
    say("own /tmp", lambda: os.chown("/tmp", 0, 0))
    say("own standard output", lambda: os.fchown(1, 0, 0))
    say("processes of others", lambda: [n for n in os.listdir("/proc") if n.isdigit() and n not in ("1", "2")])
    say("signal another job", lambda: os.kill(pid, signal.SIGKILL))
    if as_user(999, 999, [], os.getuid) == "999":
        user = sleeper(999)
        say("look into a user's process", lambda: raw("ptrace", 16, user, 0, 0))
        say("its memory", lambda: open(f"/proc/{user}/mem", "r+b"))
        end(user)
    for what, path, text in [
        ("init's score", "/proc/1/oom_score_adj", "1000"),
        ("a lower score", "/proc/self/oom_score_adj", "-1000"),
        ("a map", "/proc/self/uid_map", "0 0 1"),
        ("a pool", "/proc/sys/user/max_user_namespaces", "9"),
        ("forwarding", "/proc/sys/net/ipv4/ip_forward", "1"),
        ("a core handler", "/proc/sys/kernel/core_pattern", "|/work/x"),
        ("a group", "/sys/fs/cgroup/cgroup.procs", "0"),
    ]:
        say(f"write {what}", lambda: put(path, text))
    say("more files", lambda: raw("setrlimit", resource.RLIMIT_NOFILE, (ctypes.c_ulong * 2)(1 << 21, 1 << 21)))
    say("be nicer", lambda: os.nice(-5))
    say("a device", lambda: os.mknod("/work/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3)))
    say("a mount", lambda: raw("mount", b"x", b"/work", b"tmpfs", 0, None))
    say("unmount", lambda: raw("umount2", b"/usr", 2))
    say("a namespace", lambda: raw("unshare", 0x10000000))
    say("a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
    say("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    say("host name", lambda: socket.sethostname("evil"))
    make("/work/program", 0, 0, 0o755)
    say("file capabilities", lambda: os.setxattr("/work/program", "security.capability", bytes.fromhex("01000002ffffffff" + "00" * 12)))
    say("trusted attributes", lambda: os.setxattr("/work/program", "trusted.x", b"x"))
    say("never changed", lambda: raw("ioctl", os.open("/work/program", os.O_RDONLY), 0x40086602, ctypes.byref(ctypes.c_long(0x10))))
    say("more capabilities", lambda: raw("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)))
    say("old privileges", lambda: raw("prctl", 38, 0, 0, 0, 0))
    os.system("cp /usr/bin/id /work/id; chown 0:0 /work/id; chmod 6755 /work/id")
    say("a setuid program", lambda: as_user(999, 999, [], lambda: os.popen("/work/id -u; grep CapEff /proc/self/status").read().split()))
    say("the way out of a root", way_out)


def way_out():
    """The classic: a root below, a working directory above it, and up. Whether more than the job's root is there."""
    os.makedirs("/work/below", exist_ok=True)
    before = (os.stat("/").st_dev, os.stat("/").st_ino, sorted(os.listdir("/")))
    above = os.open("/", os.O_RDONLY)
    os.chroot("/work/below")
    os.fchdir(above)
    for _ in range(100):
        os.chdir("..")
    os.chroot(".")
    after = (os.stat("/").st_dev, os.stat("/").st_ino, sorted(os.listdir("/")))
    return "the job's root" if before == after else f"{before} {after}"


def crowd():
    """Processes of many users until the kernel refuses one more. The first error and the number."""
    number = 0
    for uid in range(1, 65536):
        try:
            child = os.fork()
        except OSError as why:
            print(f"{errno.errorcode[why.errno]} {number}", flush=True)
            return
        if child == 0:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            signal.pause()
        number += 1
    print("no end", flush=True)


if __name__ == "__main__":
    chapter, rest = sys.argv[1], sys.argv[2:]
    if chapter == "may":
        may()
    elif chapter == "may-not":
        may_not(rest[0], int(rest[1]))
        # Looked at from outside until it is killed.
        print("tried everything", flush=True)
        signal.pause()
    elif chapter == "crowd":
        crowd()
