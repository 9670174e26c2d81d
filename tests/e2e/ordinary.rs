//! Ordinary programs, which expect the same of their own processes and network as on a host.

use crate::helper::TestDaemon;
use std::fs;

/// Serves and fetches a page at port 80 by IPv4 and IPv6, and sends itself an echo request.
const NETWORK: &str = "import http.server, socket, threading, urllib.request
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass
class Six(http.server.HTTPServer):
    address_family = socket.AF_INET6
for kind, host in ((http.server.HTTPServer, '127.0.0.1'), (Six, '[::1]')):
    server = kind((host.strip('[]'), 80), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(urllib.request.urlopen('http://' + host + '/').status)
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
echo.settimeout(10)
echo.sendto(b'\\x08\\0\\0\\0\\0\\0\\0\\x01', ('127.0.0.1', 0))
print(echo.recv(64)[0])";

fn settings_of_the_host() -> Vec<String> {
    let names = ["ip_unprivileged_port_start", "ping_group_range"];
    names.map(|name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap()).into()
}

#[test]
fn jobs_serve_on_port_80_and_ping_themselves() {
    let before = settings_of_the_host();
    for keys in [
        [("filesystem.proc", "masked".into()), ("joblet.warmSandboxes", 2.into())],
        [("filesystem.proc", "pid".into()), ("joblet.warmSandboxes", 0.into())],
        [("network.reuseNamespaces", true.into()), ("joblet.warmSandboxes", 0.into())],
    ] {
        let d = TestDaemon::with::<serde_yaml::Value, 2>(keys.clone());
        for _ in 0..2 {
            assert_eq!(d.run(["python3", "-c", NETWORK]).ok(), "200\n200\n0\n", "{keys:?}");
        }
    }
    assert_eq!(settings_of_the_host(), before, "these are the jobs' own");
}

#[test]
fn limits_of_ones_own_process_are_read_and_lowered_by_pid() {
    let d = TestDaemon::start();
    let script = "import os, resource, subprocess
def tell(what, pid, *limits):
    try: print(what, resource.prlimit(pid, resource.RLIMIT_NOFILE, *limits)[0])
    except OSError as e: print(what, e.strerror)
tell('read', os.getpid())
tell('lower', os.getpid(), (100, 1000))
tell('lowered', 0)
child = subprocess.Popen(['sleep', '1000'])
tell('child', child.pid, (50, 50))
child.kill()
tell('init', 1, (1, 1))
tell('read init', 1)
print(subprocess.run('prlimit --nofile --noheadings -o SOFT --pid $$', shell=True, stdout=-1).stdout.split()[0].decode())";
    let text = d.run(["python3", "-c", script]).ok();
    let refused = "Operation not permitted";
    let wanted =
        format!("read 1024\nlower 1024\nlowered 100\nchild 100\ninit {refused}\nread init {refused}\n100\n");
    assert_eq!(text, wanted);
}
