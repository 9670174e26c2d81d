"""What a job tries with a root that it may write. Prints "what: answer"; a refused call answers with the name of its errno."""

import ctypes
import errno
import os
import signal
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)


def say(what, do):
    try:
        answer = do()
    except OSError as why:
        answer = errno.errorcode[why.errno]
    print(f"{what}: {'done' if answer is None else answer}", flush=True)


def raw(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def put(path, data, flags=os.O_CREAT | os.O_WRONLY | os.O_APPEND):
    file = os.open(path, flags, 0o644)
    try:
        return os.write(file, data)
    finally:
        os.close(file)


def many(directory, make):
    """Names in a directory until the kernel refuses one: its error, their number."""
    os.makedirs(directory, exist_ok=True)
    number = 0
    try:
        while number < 1 << 20:
            make(f"{directory}/{number}")
            number += 1
    except OSError as why:
        return errno.errorcode[why.errno], number
    return "no end", number


def remove(directory):
    for name in os.listdir(directory):
        os.unlink(f"{directory}/{name}")
    os.rmdir(directory)


def free():
    fs = os.statvfs("/work")
    return fs.f_bfree * fs.f_frsize


def fill():
    before = free()
    say("change a big file", lambda: put("/big", b"x") and None)
    say("its bytes are given back", lambda: before - free())
    say("change a sparse file", lambda: os.close(os.open("/sparse", os.O_WRONLY)))
    print("bytes of a sparse file:", before - free())
    written = 0
    try:
        while written < 1 << 30:
            written += put("/srv/endless", b"x" * 65536)
    except OSError as why:
        print("write without end:", errno.errorcode[why.errno])
    print("bytes:", written)
    say("work is full too", lambda: put("/work/full", b"x" * 65536) and None)
    os.unlink("/srv/endless")
    say("room again", lambda: put("/srv/room", b"x" * 65536) and None)
    why, number = many("/srv/files", lambda path: os.close(os.open(path, os.O_CREAT, 0o600)))
    print(f"files without end: {why}\nfiles: {number}")
    say("no file in work", lambda: os.close(os.open("/work/one", os.O_CREAT, 0o600)))
    remove("/srv/files")
    why, number = many("/srv/links", lambda path: os.symlink("x" * 100, path))
    print(f"links without end: {why}")
    remove("/srv/links")
    say("reserve without end", lambda: os.posix_fallocate(os.open("/srv/reserved", os.O_CREAT | os.O_RDWR), 0, 1 << 40))
    os.unlink("/srv/reserved")
    before = free()
    say("a hole without end", lambda: os.truncate(os.open("/srv/hole", os.O_CREAT | os.O_RDWR), 1 << 50))
    print("bytes of a hole:", before - free())
    print("directories without end: %s\ndeep: %s" % deep())
    say("whiteouts without end", whiteouts)


def deep():
    """Directories in each other until the kernel refuses one: its error, their number."""
    os.makedirs("/srv/deep")
    os.chdir("/srv/deep")
    number = 0
    try:
        while number < 10000:
            os.mkdir("d")
            os.chdir("d")
            number += 1
    except OSError as why:
        return errno.errorcode[why.errno], number
    return "no end", number


def owners():
    """Special bits, owners and attributes for files of its own and for those of the image, wherever it can write."""
    made = []
    for top in ("/work", "/srv"):
        os.makedirs(f"{top}/d")
        os.chmod(f"{top}/d", 0o6777)
        for name, uid in [("f", 0), ("user", 999), ("last", 65535)]:
            path = f"{top}/d/{name}"
            os.close(os.open(path, os.O_CREAT, 0o644))
            say(f"{top} give {name} away", lambda: os.chown(path, uid, uid))
            os.chmod(path, 0o6755)
            made.append(path)
        path = f"{top}/d/f"
        say(f"{top} give to one more", lambda: os.chown(path, 65536, 65536))
        say(f"{top} give to the host's root", lambda: os.chown(path, 1 << 31, 1 << 31))
        capability = bytes.fromhex("01000002ffffffff" + "00" * 12)
        say(f"{top} file capabilities", lambda: os.setxattr(path, "security.capability", capability))
        say(f"{top} trusted attributes", lambda: os.setxattr(path, "trusted.x", b"x"))
        say(f"{top} never changed", lambda: raw("ioctl", os.open(path, os.O_RDONLY), 0x40086602, ctypes.byref(ctypes.c_long(0x10))))
        say(f"{top} a device", lambda: os.mknod(f"{top}/d/null", stat.S_IFCHR | 0o666, os.makedev(1, 3)))
        made.append(f"{top}/d")
    for path in ("/srv/root", "/etc/passwd"):
        os.chmod(path, 0o6777)
        made.append(path)
    print("made:", " ".join(made), flush=True)
    signal.pause()


def whiteouts():
    """Each name that is removed from a directory of the image leaves a whiteout; they count as files do."""
    for name in os.listdir("/many"):
        os.unlink(f"/many/{name}")
    return "no end"


def attribute(name, value):
    return lambda: os.setxattr("/srv", name, value)


def attributes():
    say("a whiteout of its own", lambda: os.mknod("/srv/whiteout", stat.S_IFCHR | 0o600, os.makedev(0, 0)))
    say("a device", lambda: os.mknod("/srv/null", stat.S_IFCHR | 0o600, os.makedev(1, 3)))
    for name, value in [("redirect", b"/etc"), ("opaque", b"y"), ("metacopy", b""), ("origin", b"x" * 20), ("overlay.opaque", b"y")]:
        say(f"trusted.overlay.{name}", attribute(f"trusted.overlay.{name}", value))
    # Copied up by now, which leaves attributes in the upper layer.
    put("/srv/root", b"x")
    os.mkdir("/srv/made")
    say("attributes that show", lambda: [n for d in ("/srv", "/srv/root", "/srv/made", "/etc") for n in os.listxattr(d)])
    for name, value in [("opaque", b"y"), ("redirect", b"/etc"), ("whiteout", b"y")]:
        try:
            os.setxattr("/dir", f"user.overlay.{name}", value)
            os.setxattr("/srv/made", f"user.overlay.{name}", value)
        except OSError:
            pass  # Some file systems have no attributes for users: nothing is left to mean anything.
    say("user.overlay means nothing", lambda: " ".join(os.listdir("/dir")))
    say("user.overlay leads nowhere", lambda: len(os.listdir("/srv/made")))
    say("rename a directory of the image", lambda: os.rename("/dir", "/elsewhere"))
    say("rename a mount point", lambda: os.rename("/tmp", "/elsewhere"))
    say("remove a mount point", lambda: os.rmdir("/tmp"))
    say("change a device", lambda: os.chmod("/dev/null", 0))
    hidden = [line.split()[4] for line in open("/proc/self/mountinfo") if " /proc/" in line and " overlay " in line]
    directories = [path for path in hidden if os.path.isdir(path)]
    say("write to what hides /proc", lambda: os.mkdir(f"{directories[0]}/x") if directories else "EROFS")
    say("link across to work", lambda: os.link("/srv/root", "/work/link"))
    say("the upper layer by its path", lambda: os.listdir("/own"))
    say("another overlay", lambda: raw("mount", b"x", b"/srv", b"overlay", 0, b"lowerdir=/etc,upperdir=/srv,workdir=/work"))
    say("remount", lambda: raw("mount", None, b"/", None, 32, b"redirect_dir=on"))
    say("a file by its handle", lambda: raw("open_by_handle_at", -100, ctypes.byref(ctypes.create_string_buffer(64)), 0))
    inside = ("/own/", "/extra", "/base", "/bottom", "/layer", "/host/")
    options = [word for line in open("/proc/self/mountinfo") if line.split()[4] == "/" for word in line.split()[-1].split(",")]
    paths = [path for word in options if "dir=" in word for path in word.split("=")[1].split(":")]
    say("paths of the host", lambda: [p for p in paths if p.startswith("/") and not p.startswith(inside)])
    say("flush", lambda: os.fsync(os.open("/srv/root", os.O_RDONLY)))


if __name__ == "__main__":
    {"fill": fill, "attributes": attributes, "owners": owners}[sys.argv[1]]()
