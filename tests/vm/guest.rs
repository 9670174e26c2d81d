//! A guest: booted once for all of its tests, and each test is a line that its console must show.

use crate::helper::programs::source;
use crate::helper::rnx::Running;
use crate::helper::skip;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

/// Guests measure time: two at once would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// Minutes where the machine is ours alone; builds and other tests beside it make it slow.
const LONGEST: Duration = Duration::from_secs(1500);
/// The kernel's command line, as far as it is everybody's. A busy host may be late with the ticks by which the kernel would
/// check the timer of the emulator, which works.
pub(super) const BOOT: &str = "console=ttyS0 quiet panic=-1 no_timer_check";
/// What every guest needs, and Debian's package of it.
const PROGRAMS: [(&str, &str); 6] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("cpio", "cpio"),
    ("/bin/busybox", "busybox-static"),
    ("/usr/sbin/mke2fs", "e2fsprogs"),
    ("/usr/sbin/dmsetup", "dmsetup"),
    ("/usr/bin/setpriv", "util-linux"),
];

/// A machine to boot, with what runs in it.
pub(super) struct Guest {
    /// Every test, in the order in which the guest runs them.
    pub(super) tests: &'static [&'static str],
    /// Packs the guest: from a directory of its own, in which the file `tests` lies already, to the arguments of
    /// the emulator. An error is why this host cannot.
    pub(super) pack: fn(&Path) -> Result<Vec<String>, String>,
    /// What the only boot said on its console; the reason when there is no guest to boot.
    pub(super) console: OnceLock<Result<String, String>>,
    /// Once is enough for a screen.
    pub(super) shown: Once,
}

impl Guest {
    /// Passes when the guest said so of this test, and skips it where no guest can be booted.
    pub(super) fn judge(&self, test: &str) {
        let name = test.rsplit("::").next().unwrap_or(test);
        let console = match self.console.get_or_init(|| self.boot()) {
            Ok(console) => console,
            Err(reason) => return skip::record(test, reason),
        };
        if console.lines().any(|l| l == format!("PASS {name}")) {
            return;
        }
        let failed = console
            .lines()
            .find(|l| l.starts_with(&format!("FAIL {name}")))
            .unwrap_or("it did not come to this test");
        self.shown
            .call_once(|| eprintln!("--- the guest's console\n{console}--- end of the guest's console"));
        panic!("{failed}");
    }

    fn boot(&self) -> Result<String, String> {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        for (program, package) in PROGRAMS {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
            if !found.is_ok_and(|o| o.status.success()) {
                return Err(format!("{program} is missing (package {package}; tests/run.sh vm installs it)"));
            }
        }
        let out = tempfile::tempdir().expect("a directory for the guest");
        let list = self.tests.iter().map(|t| format!("TEST {t}\n")).collect::<String>();
        fs::write(out.path().join("tests"), list).expect("writing our own file");
        let mut qemu = Command::new("qemu-system-x86_64");
        // No KVM: a device that is present may still hang, and TCG boots in seconds.
        qemu.args("-accel tcg -cpu max -smp 2 -m 1024 -nographic -no-reboot -net none".split(' '));
        qemu.args((self.pack)(out.path())?);
        let console = Running::start(&mut qemu).finish_within(LONGEST);
        Ok(console.text().replace('\r', ""))
    }
}

/// Runs a script of `tests/vm` that packs (part of) a guest.
pub(super) fn pack(script: &str, arguments: &[&Path]) {
    let mut command = Command::new("bash");
    command.arg(source("tests/vm").join(script)).args(arguments);
    Running::start(&mut command).finish_within(LONGEST).ok();
}

/// The arguments of an NVMe disk, the one kind for which Debian's cloud kernel needs no module; the guest knows it by its
/// serial number. What it keeps need not survive the emulator.
pub(super) fn disk(image: &Path, serial: &str) -> Vec<String> {
    let drive = format!("file={},if=none,id={serial},format=raw,cache=unsafe", image.display());
    let device = format!("nvme,drive={serial},serial={serial}");
    ["-drive", &drive, "-device", &device].map(str::to_owned).into()
}

/// The tests of a guest, each of which asks the console for its own name.
macro_rules! in_guest {
    ($guest:ident, $pack:path: $($name:ident)*) => {
        static $guest: $crate::vm::guest::Guest = $crate::vm::guest::Guest {
            tests: &[$(stringify!($name)),*],
            pack: $pack,
            console: std::sync::OnceLock::new(),
            shown: std::sync::Once::new(),
        };
        $(
            #[test]
            fn $name() {
                $guest.judge(concat!(module_path!(), "::", stringify!($name)));
            }
        )*
    };
}
