"""What a job tries with a root that it may write. Prints "what: answer"; a refused call answers with the name of its errno."""

import ctypes
import errno
import os
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
    say("whiteouts without end", whiteouts)


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
    {"fill": fill, "attributes": attributes}[sys.argv[1]]()
