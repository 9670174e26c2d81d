//! A name server of a test's own, and questions as a job asks them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use joblet::resolver::message::{Answer, Question, Record, code, kind};
use joblet::resolver::name::Name;

use joblet::sys::thread::unshare_mounts;
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

use super::network::Namespace;
use super::wait::PATIENCE;

/// A server that lives as long as the test process, and the questions that came.
#[derive(Clone, Default)]
pub struct NameServer(Arc<Mutex<Vec<String>>>);

impl NameServer {
    /// Serves on port 53 of an address in this namespace. `www.example.org` is `www`; see [`answer`] for other names.
    pub fn start(namespace: &Namespace, address: Ipv4Addr, www: Ipv4Addr) -> NameServer {
        let server = NameServer::default();
        let (udp, tcp) = namespace
            .run(|| (UdpSocket::bind((address, 53)).unwrap(), TcpListener::bind((address, 53)).unwrap()));
        let own = server.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                own.serve(&udp, from, &buffer[..length], www);
            }
        });
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || {
                    while let Some(question) = take_framed(&stream) {
                        let question = Question::read(&question).unwrap();
                        own.note(&question);
                        put_framed(&stream, &answer(&question, www, usize::MAX));
                    }
                });
            }
        });
        server
    }

    fn note(&self, question: &Question) {
        self.0.lock().unwrap().push(format!("{} {}", question.name, question.kind));
    }

    fn serve(&self, udp: &UdpSocket, to: SocketAddr, bytes: &[u8], www: Ipv4Addr) {
        let question = Question::read(bytes).unwrap();
        self.note(&question);
        if question.name.to_string() == "silent.example.org" {
            return;
        }
        let mut right = answer(&question, www, question.room());
        if question.name.to_string() == "forged.example.org" {
            // The lies of a stranger who has guessed the port: another number, then another name.
            let liar = Record::address(&question.name, [6, 6, 6, 6]);
            let mut wrong = question.answer(code::NOERROR, &[liar], None, 512);
            wrong[0] ^= 1;
            udp.send_to(&wrong, to).unwrap();
            wrong[0] ^= 1;
            wrong[13] = b'x';
            udp.send_to(&wrong, to).unwrap();
            right = question.answer(code::NOERROR, &[Record::address(&question.name, www)], None, 512);
        }
        let _ = udp.send_to(&right, to);
    }

    /// The questions that it has heard, as "name type", and forgets them.
    pub fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// The zone: an address, a name for it elsewhere, a private address, a large text, a name without an answer, and below
/// `test` all names.
fn answer(question: &Question, www: Ipv4Addr, room: usize) -> Vec<u8> {
    let name = &question.name;
    let record = |owner: &Name, kind, data: &[u8]| Record {
        owner: owner.clone(),
        kind,
        ttl: 300,
        data: data.to_vec(),
    };
    let found = match (name.to_string().as_str(), question.kind) {
        ("www.example.org", kind::A) => vec![record(name, kind::A, &www.octets())],
        ("www.example.org" | "six.example.org", kind::AAAA) => {
            vec![Record::address(name, Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 8))]
        }
        ("moved.example.org", kind::AAAA) => {
            vec![Record::address(name, Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))]
        }
        ("cdn.example.org", kind::A) => {
            let edge = Name::of("edge.example.net").unwrap();
            vec![record(name, kind::CNAME, edge.bytes()), record(&edge, kind::A, &www.octets())]
        }
        ("moved.example.org", kind::A) => vec![record(name, kind::A, &[10, 9, 9, 9])],
        ("big.example.org", kind::TXT) => {
            let text = [&[200][..], &[b'x'; 200]].concat();
            vec![record(name, kind::TXT, &text); 30]
        }
        (bad, kind::A) if bad.ends_with("bad.test") => vec![record(name, kind::A, &[203, 0, 113, 1])],
        (ok, kind::A) if ok.ends_with(".ok.test") => vec![record(name, kind::A, &[9, 9, 9, 9])],
        (test, kind::A) if test.ends_with(".test") => vec![record(name, kind::A, &www.octets())],
        // They have addresses, and none of this kind.
        (test, _) if test.ends_with(".test") => vec![],
        _ => return question.refused(code::NXDOMAIN, None),
    };
    question.answer(code::NOERROR, &found, None, room)
}

/// Runs a test in a host whose `/etc/resolv.conf` is a file of its own, which names this server, for this thread and what
/// it starts.
pub fn in_host(host: &Namespace, server: Ipv4Addr, act: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    set_server(&file, server);
    host.run(|| {
        unshare_mounts().unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        mount_bind(&file, "/etc/resolv.conf").unwrap();
        act(&file);
    });
}

/// Writes a `resolv.conf` that names this server.
pub fn set_server(file: &Path, address: Ipv4Addr) {
    std::fs::write(file, format!("nameserver {address}\nsearch corp.example\n")).unwrap();
}

/// The bytes of a question.
pub fn question(name: &str, kind: u16) -> Vec<u8> {
    let name = Name::of(name).unwrap();
    // With EDNS, as programs ask that want to know why.
    let edns = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    [&header[..], name.bytes(), &kind.to_be_bytes(), &[0, 1], &edns].concat()
}

/// The answer to a question over UDP; `None`: none came in time, or nobody is there.
pub fn ask_bytes(server: Ipv4Addr, bytes: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((server, 53)).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.send(bytes).ok()?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

/// The same for a name.
pub fn ask(server: Ipv4Addr, name: &str, kind: u16) -> Option<Answer> {
    ask_bytes(server, &question(name, kind), PATIENCE).map(|bytes| Answer::read(&bytes).unwrap())
}

/// The same over TCP.
pub fn ask_tcp(server: Ipv4Addr, name: &str, kind: u16) -> Answer {
    let stream = TcpStream::connect((server, 53)).unwrap();
    put_framed(&stream, &question(name, kind));
    Answer::read(&take_framed(&stream).unwrap()).unwrap()
}

fn put_framed(mut stream: &TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap();
    let _ = stream.write_all(&[&length.to_be_bytes()[..], message].concat());
}

fn take_framed(mut stream: &TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}
