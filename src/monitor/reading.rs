//! One look at the host.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{Mode, OFlags};

use super::block;
use super::cpu;
use super::disk::{self, Disk};
use super::host::{self, Host};
use super::interface::{self, Interface};
use super::memory::{self, Memory};
use super::part::{Part, Parts};
use super::process::{self, SCANNED, Stat};

use crate::sys::clock;
use crate::sys::netlink::{Family, Socket, link};

/// More than `/proc/<pid>/stat` has: 52 numbers and a name of at most 64 bytes.
const STAT: usize = 2048;

/// The places of the files, so that tests have their own.
#[derive(Debug, Clone)]
pub struct Files {
    /// The place of `/proc`.
    pub proc: PathBuf,
    /// The place of `/sys`.
    pub sys: PathBuf,
    /// The place of `/etc`.
    pub etc: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Files { proc: "/proc".into(), sys: "/sys".into(), etc: "/etc".into() }
    }
}

/// The counters and texts of one moment. Parts that nobody wanted, or that cannot be read, are empty.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The moment, for intervals.
    pub(super) at: Instant,
    /// The same moment in nanoseconds since the epoch.
    pub(super) time_ns: i64,
    pub(super) host: Host,
    pub(super) stat: cpu::Stat,
    pub(super) load: [f64; 3],
    pub(super) memory: Memory,
    pub(super) disks: Vec<Disk>,
    pub(super) interfaces: Vec<Interface>,
    pub(super) blocks: Vec<block::Disk>,
    pub(super) processes: HashMap<i32, Stat>,
}

impl Files {
    /// Looks at these parts. The host itself, its processors and its memory, which shares are of, are always read.
    ///
    /// # Errors
    /// `/proc/stat` or `/proc/meminfo` cannot be read.
    pub fn read(&self, parts: Parts) -> io::Result<Reading> {
        let stat = cpu::stat(&self.proc("stat")?).ok_or_else(|| broken("/proc/stat"))?;
        let memory = memory::meminfo(&self.proc("meminfo")?).ok_or_else(|| broken("/proc/meminfo"))?;
        let text = |name: &str| self.proc(name).unwrap_or_default();
        Ok(Reading {
            at: Instant::now(),
            time_ns: clock::now_ns(),
            host: self.host(stat.booted),
            load: cpu::load_average(&text("loadavg")).unwrap_or_default(),
            memory,
            disks: if parts.has(Part::Disk) { room(&text("self/mounts")) } else { Vec::new() },
            interfaces: if parts.has(Part::Network) { self.interfaces(&text("net/dev")) } else { Vec::new() },
            blocks: if parts.has(Part::Io) { block::diskstats(&text("diskstats")) } else { Vec::new() },
            processes: if parts.has(Part::Process) { self.processes() } else { HashMap::new() },
            stat,
        })
    }

    fn proc(&self, name: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.proc.join(name))?).into_owned())
    }

    fn host(&self, booted: i64) -> Host {
        let uname = rustix::system::uname();
        let word = |word: &std::ffi::CStr| word.to_string_lossy().into_owned();
        Host {
            name: word(uname.nodename()),
            system: host::os_release(&fs::read_to_string(self.etc.join("os-release")).unwrap_or_default()),
            kernel: word(uname.release()),
            machine: word(uname.machine()),
            booted,
            uptime: host::uptime(&self.proc("uptime").unwrap_or_default()).unwrap_or(0),
        }
    }

    fn interfaces(&self, net_dev: &str) -> Vec<Interface> {
        let mut found = interface::net_dev(net_dev);
        let net = self.sys.join("class/net");
        let of = |name: &str, file: &str| fs::read_to_string(net.join(name).join(file)).ok();
        let inet6 = interface::inet6(&self.proc("net/if_inet6").unwrap_or_default());
        let inet4 = addresses();
        for interface in &mut found {
            let index = index(&interface.name);
            let inet4 = inet4.iter().filter(|(of, _)| Some(*of) == index).map(|(_, address)| *address);
            let inet6 =
                inet6.iter().filter(|(of, _)| *of == interface.name).map(|(_, address)| (*address).into());
            interface.addresses = inet4.chain(inet6).map(|address: IpAddr| address.to_string()).collect();
            interface.mac =
                of(&interface.name, "address").map(|mac| mac.trim().to_owned()).unwrap_or_default();
        }
        found
    }

    fn processes(&self) -> HashMap<i32, Stat> {
        let Ok(proc) = File::open(&self.proc) else { return HashMap::new() };
        let entries = fs::read_dir(&self.proc).into_iter().flatten().flatten();
        let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        let pids =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_process(name));
        let mut room = [0; STAT];
        // One that has ended in between is not there any more.
        let stats = pids.take(SCANNED).filter_map(|pid| stat_of(&proc, &pid, &mut room));
        stats.map(|stat| (stat.pid, stat)).collect()
    }

    /// The command line of a process and the user that it runs as.
    pub(super) fn details(&self, stat: &Stat) -> (String, String) {
        use std::os::unix::fs::MetadataExt;
        let dir = self.proc.join(stat.pid.to_string());
        let command = process::command(&fs::read(dir.join("cmdline")).unwrap_or_default(), &stat.name);
        let passwd = || fs::read_to_string(self.etc.join("passwd")).unwrap_or_default();
        let user = fs::metadata(&dir).map(|meta| process::user(&passwd(), meta.uid()));
        (command, user.unwrap_or_default())
    }
}

/// One process. A host may have thousands: one call opens the file, and one reads it.
fn stat_of(proc: &File, pid: &str, room: &mut [u8; STAT]) -> Option<Stat> {
    let path = format!("{pid}/stat");
    let file = rustix::fs::openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let got = rustix::io::read(&file, &mut room[..]).ok()?;
    process::stat(&String::from_utf8_lossy(&room[..got]))
}

/// The rooms of the file systems. One whose directory is hidden or cannot be asked is left out.
fn room(mounts: &str) -> Vec<Disk> {
    let asked = disk::mounts(mounts).into_iter().filter_map(|mount| {
        let found = rustix::fs::statvfs(Path::new(&mount.point)).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(Disk {
            total: bytes(found.f_blocks),
            used: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
            free: bytes(found.f_bavail),
            inodes: found.f_files,
            inodes_free: found.f_ffree,
            mount,
        })
    });
    asked.filter(|disk| disk.total > 0).collect()
}

/// The number of an interface. Not from `/sys`: that may be the one of another network namespace (sysfs(5)).
fn index(name: &str) -> Option<u32> {
    let any = std::os::unix::net::UnixDatagram::unbound().ok()?;
    rustix::net::netdevice::name_to_index(any, name).ok()
}

/// The IPv4 addresses of the host, each with the number of its interface.
fn addresses() -> Vec<(u32, IpAddr)> {
    let dump = || Socket::open(Family::Route)?.dump(&mut link::get_addresses(), link::address_entry);
    let found = dump().unwrap_or_default();
    found.into_iter().map(|address| (address.index, address.local.into())).collect()
}

fn broken(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file} has an unknown form"))
}
