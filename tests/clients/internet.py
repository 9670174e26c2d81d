"""A small internet of a test's own: a package index, a registry of npm, one of cargo, git repositories, a repository of
apt and plain pages, each under its name below "test", by HTTP on port 80 and by HTTPS on port 443. Everything that it
serves is made in the given directory, with an authority of its own, whose certificate is DIR/ca.pem.

usage: internet.py DIR ADDRESS    prints "ready" when it serves
"""

import base64
import gzip
import hashlib
import http.server
import io
import json
import os
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile

NAMES = ["www.test", "pypi.test", "registry.test", "crates.test", "git.test", "deb.test"]
DIR, ADDRESS = sys.argv[1], sys.argv[2]


def write(path, content):
    path = os.path.join(DIR, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(content if isinstance(content, bytes) else content.encode())


def run(*command, **more):
    subprocess.run(command, check=True, cwd=DIR, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)


def packed(files):
    """A compressed tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def certificates():
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
        "-subj", "/CN=Authority of a test", "-keyout", "ca.key", "-out", "ca.pem")
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=www.test",
        "-keyout", "server.key", "-out", "server.csr")
    names = ",".join("DNS:" + name for name in NAMES)
    write("extensions", f"subjectAltName={names}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
    run("openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "7",
        "-days", "30", "-extfile", "extensions", "-out", "server.pem")


def pages():
    write("www.test/hello", "hello from www.test\n")
    write("www.test/large", bytes(range(256)) * 8192)


def wheel():
    files = {
        "hello.py": "def main(): print('hello from a wheel')\n",
        "hello-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n",
        "hello-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files["hello-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files) + "hello-1.0.dist-info/RECORD,,\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    name = "hello-1.0-py3-none-any.whl"
    write(f"pypi.test/packages/{name}", out.getvalue())
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    write("pypi.test/simple/hello/index.html", f'<a href="../../packages/{name}#sha256={digest}">{name}</a>\n')


def npm():
    about = {"name": "hello", "version": "1.0.0", "main": "index.js"}
    archive = packed({"package/package.json": json.dumps(about), "package/index.js": "module.exports = 'hello from npm';\n"})
    write("registry.test/files/hello-1.0.0.tgz", archive)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    dist = {"tarball": "https://registry.test/files/hello-1.0.0.tgz", "integrity": integrity}
    versions = {"1.0.0": dict(about, dist=dist)}
    write("registry.test/hello", json.dumps({"name": "hello", "dist-tags": {"latest": "1.0.0"}, "versions": versions}))


CRATE = {
    "Cargo.toml": '[package]\nname = "hello"\nversion = "1.0.0"\nedition = "2018"\n',
    "src/lib.rs": 'pub fn hello() -> &\'static str { "hello from a crate" }\n',
}


def crates():
    archive = packed({f"hello-1.0.0/{name}": text for name, text in CRATE.items()})
    write("crates.test/dl/hello/1.0.0", archive)
    write("crates.test/config.json", json.dumps({"dl": "https://crates.test/dl/{crate}/{version}"}))
    line = {"name": "hello", "vers": "1.0.0", "deps": [], "cksum": hashlib.sha256(archive).hexdigest(),
            "features": {}, "yanked": False}
    write("crates.test/he/ll/hello", json.dumps(line) + "\n")


def repository(name, files, message):
    work = f"work-{name}"
    for path, text in files.items():
        write(f"{work}/{path}", text)
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    run("git", "init", "-q", "-b", "main", work)
    run("git", "-C", work, "add", ".")
    run("git", "-C", work, *who, "commit", "-q", "-m", message)
    run("git", "clone", "-q", "--bare", work, f"git.test/{name}.git")


def debian():
    write("demo/DEBIAN/control", "Package: demo\nVersion: 1.0\nArchitecture: all\nMaintainer: n <n@example.org>\nDescription: demo\n")
    write("demo/usr/share/demo/hello", "hello from a package\n")
    run("dpkg-deb", "--root-owner-group", "-b", "demo", "demo.deb")
    with open(os.path.join(DIR, "demo.deb"), "rb") as f:
        package = f.read()
    write("deb.test/demo.deb", package)
    with open(os.path.join(DIR, "demo/DEBIAN/control")) as f:
        control = f.read()
    listed = f"{control}Filename: ./demo.deb\nSize: {len(package)}\nSHA256: {hashlib.sha256(package).hexdigest()}\n"
    write("deb.test/Packages", listed)
    write("deb.test/Packages.gz", gzip.compress(listed.encode()))


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def translate_path(self, path):
        self.directory = os.path.join(DIR, self.site())
        return super().translate_path(path)

    def site(self):
        name = self.headers.get("Host", "").split(":")[0]
        return name if name in NAMES else "nowhere"

    def do_GET(self):
        self.git() if self.site() == "git.test" else super().do_GET()

    def do_POST(self):
        self.git() if self.site() == "git.test" else self.send_error(405)

    def body(self):
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def git(self):
        """Git's own program for its protocol over HTTP, as a CGI script."""
        path, _, query = self.path.partition("?")
        variables = dict(
            os.environ, GIT_PROJECT_ROOT=os.path.join(DIR, "git.test"), GIT_HTTP_EXPORT_ALL="1", PATH_INFO=path,
            QUERY_STRING=query, REQUEST_METHOD=self.command, CONTENT_TYPE=self.headers.get("Content-Type", ""),
            HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""), REMOTE_ADDR=self.client_address[0],
            GIT_PROTOCOL=self.headers.get("Git-Protocol", ""),
        )
        body = self.body()
        variables["CONTENT_LENGTH"] = str(len(body))
        out = subprocess.run(["git", "http-backend"], input=body, env=variables, stdout=subprocess.PIPE).stdout
        head, _, content = out.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
        status = next((value for name, value in headers if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in headers:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


class Secure(Server):
    def __init__(self, where, context):
        self.context = context
        super().__init__(where, Handler)

    def finish_request(self, request, client_address):
        # In the thread of the connection: a client that stalls delays no other.
        super().finish_request(self.context.wrap_socket(request, server_side=True), client_address)


certificates()
pages()
wheel()
npm()
crates()
repository("hello", {"hello": "hello from a repository\n"}, "first of a test")
repository("crate", CRATE, "a crate")
debian()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(DIR, "server.pem"), os.path.join(DIR, "server.key"))
for server in (Server((ADDRESS, 80), Handler), Secure((ADDRESS, 443), context)):
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
# The other end of its standard input is its test.
sys.stdin.read()
