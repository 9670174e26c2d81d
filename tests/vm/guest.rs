//! A guest boots once for all of its tests, and its console has one verdict for each of them. A boot that fails is
//! remembered like one that succeeds: no test of the guest boots it again.

use crate::helper::programs::{cache, source};
use crate::helper::rnx::Running;
use crate::helper::skip;
use std::any::Any;
use std::fmt::Write;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, Once, OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// A guest that measures time, or that is busy all the time, holds this alone, because another guest would distort its
/// figures or be too slow beside it; the others share it.
static PROCESSORS: RwLock<()> = RwLock::new(());
/// Two guests must not fill the cache of kernel and packages at once.
static PACKING: Mutex<()> = Mutex::new(());
/// A guest takes about five minutes where it has two processors to itself, and three times that beside builds and other tests.
const LONGEST: Duration = Duration::from_secs(1500);
/// The part of the kernel's command line that all guests share. A busy host may be late with the ticks by which the kernel
/// would check the timer of the emulator, which works.
pub(super) const BOOT: &str = "console=ttyS0 quiet panic=-1 no_timer_check";
/// The programs that every guest needs, each with its Debian package.
const PROGRAMS: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("cpio", "cpio"),
    ("/bin/busybox", "busybox-static"),
    ("/usr/sbin/mke2fs", "e2fsprogs"),
    ("/usr/sbin/dmsetup", "dmsetup"),
    ("/usr/bin/setpriv", "util-linux"),
    ("/usr/bin/free", "procps"),
];

/// A machine to boot, and the checks that run in it.
pub(super) struct Guest {
    /// The name of the file in the test cache that keeps the console of the last boot.
    pub(super) name: &'static str,
    /// Whether the guest runs without another guest.
    pub(super) alone: bool,
    /// Every test, in the order in which the guest runs them.
    pub(super) tests: &'static [&'static str],
    /// Packs the guest in a directory of its own, in which the file `tests` lies already, and returns the arguments of the
    /// emulator. It panics when it cannot, and every test of the guest then fails with its words.
    pub(super) pack: fn(&Path) -> Vec<String>,
    /// How the only boot ended.
    pub(super) boot: OnceLock<Boot>,
    /// The first failed test prints the console; one copy is enough for a screen.
    pub(super) shown: Once,
}

/// How a boot ended.
pub(super) enum Boot {
    /// This host lacks a program that guests need: all tests are skipped for this reason.
    Impossible(String),
    /// The guest could not be packed or started: all tests fail for this reason.
    Failed(String),
    /// The text of the console up to the guest's end, and whether the guest was killed because it was late.
    Over { console: String, late: bool },
}

impl Guest {
    /// Passes when the console says that this test passed, and skips the test where no guest can be booted.
    pub(super) fn judge(&self, test: &str) {
        let name = test.rsplit("::").next().unwrap_or(test);
        let (console, late) = match self.boot_once(Guest::run) {
            Boot::Impossible(reason) => return skip::record(test, reason),
            Boot::Failed(reason) => panic!("the guest could not be booted: {reason}"),
            Boot::Over { console, late } => (console, *late),
        };
        if console.lines().any(|l| l == format!("PASS {name}")) {
            return;
        }
        let failed = console.lines().find(|l| l.starts_with(&format!("FAIL {name} ")));
        let progress = progress(console);
        let reason = failed.map(str::to_owned).unwrap_or_else(|| {
            let end = if late { format!("was killed after {LONGEST:?}") } else { "ended early".to_owned() };
            format!("no verdict: the guest {end}, {}", progress.lines().next().unwrap_or_default())
        });
        self.shown.call_once(|| {
            eprintln!("--- the guest's console\n{console}--- end of the guest's console\n{progress}");
        });
        panic!("{reason}");
    }

    /// Boots at the first call and remembers the result, also when the boot panics. Other tests wait for it meanwhile.
    fn boot_once(&self, boot: impl FnOnce(&Guest) -> Boot) -> &Boot {
        self.boot.get_or_init(|| {
            catch_unwind(AssertUnwindSafe(|| boot(self)))
                .unwrap_or_else(|panic| Boot::Failed(words_of(panic.as_ref())))
        })
    }

    fn run(&self) -> Boot {
        let (_alone, _shared);
        if self.alone {
            _alone = PROCESSORS.write().unwrap_or_else(PoisonError::into_inner);
        } else {
            _shared = PROCESSORS.read().unwrap_or_else(PoisonError::into_inner);
        }
        for (program, package) in PROGRAMS {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
            if !found.is_ok_and(|o| o.status.success()) {
                let reason = format!("{program} is missing (package {package}; tests/run.sh vm installs it)");
                return Boot::Impossible(reason);
            }
        }
        let out = tempfile::tempdir().expect("a directory for the guest");
        let list = self.tests.iter().map(|t| format!("TEST {t}\n")).collect::<String>();
        fs::write(out.path().join("tests"), list).expect("writing our own file");
        let mut qemu = Command::new("qemu-system-x86_64");
        // No KVM: a device that is present may still hang, and TCG boots in seconds.
        qemu.args("-accel tcg -cpu max -smp 2 -m 1024 -nographic -no-reboot -net none".split(' '));
        let packing = PACKING.lock().unwrap_or_else(PoisonError::into_inner);
        qemu.args((self.pack)(out.path()));
        drop(packing);
        let (output, late) = match Running::start(&mut qemu).end_within(LONGEST) {
            Ok(output) => (output, false),
            Err(output) => (output, true),
        };
        let console = output.text().replace('\r', "");
        let kept = cache().join("vm").join(format!("{}.console", self.name));
        fs::write(kept, &console).expect("the cache of the tests can be written");
        Boot::Over { console, late }
    }
}

/// The words of a panic.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

/// Where a guest stands, in a sentence: the check that has begun and not ended, and the seconds that each earlier check took.
fn progress(console: &str) -> String {
    let steps = || console.lines().filter_map(|line| line.strip_prefix("---- ")?.split_once(' '));
    let mut text = match steps().next_back() {
        None => "before its first check".to_owned(),
        Some((name, begins)) if begins.starts_with("begins") => format!("in check {name}, which {begins}"),
        Some((name, _)) => format!("after check {name}"),
    };
    for (name, took) in steps().filter_map(|(name, step)| Some((name, step.strip_prefix("took ")?))) {
        let _ = write!(text, "\n  {took:>6}  {name}");
    }
    text
}

/// Runs a script of `tests/vm` that packs a guest, or a part of one.
pub(super) fn pack(script: &str, arguments: &[&Path]) {
    let mut command = Command::new("bash");
    command.arg(source("tests/vm").join(script)).args(arguments);
    Running::start(&mut command).finish_within(LONGEST).ok();
}

/// The arguments of an NVMe disk, the one kind for which Debian's cloud kernel needs no module; the guest knows it by its
/// serial number. Its contents need not survive the emulator.
pub(super) fn disk(image: &Path, serial: &str) -> Vec<String> {
    let drive = format!("file={},if=none,id={serial},format=raw,cache=unsafe", image.display());
    let device = format!("nvme,drive={serial},serial={serial}");
    ["-drive", &drive, "-device", &device].map(str::to_owned).into()
}

/// The tests of a guest, each of which looks for its own name on the console.
macro_rules! in_guest {
    ($guest:ident, $file:literal, alone: $alone:literal, $pack:path: $($name:ident)*) => {
        static $guest: $crate::vm::guest::Guest = $crate::vm::guest::Guest {
            name: $file,
            alone: $alone,
            tests: &[$(stringify!($name)),*],
            pack: $pack,
            boot: std::sync::OnceLock::new(),
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

#[test]
fn failed_boot_is_remembered_and_not_repeated() {
    let guest = Guest {
        name: "none",
        alone: false,
        tests: &[],
        pack: |_| vec![],
        boot: OnceLock::new(),
        shown: Once::new(),
    };
    for _ in 0..2 {
        let boot = guest.boot_once(|guest| {
            assert!(guest.boot.get().is_none(), "a second boot");
            panic!("no disk")
        });
        assert!(matches!(boot, Boot::Failed(reason) if reason == "no disk"));
    }
}

#[test]
fn progress_names_the_current_check_and_earlier_times() {
    let console = "---- one begins at 4 s\nPASS one\n---- one took 12 s\n---- two begins at 16 s\nthe stop\n";
    assert_eq!(progress(console), "in check two, which begins at 16 s\n    12 s  one");
    assert_eq!(progress("Linux\n"), "before its first check");
    assert_eq!(progress("---- one took 3 s\n"), "after check one\n     3 s  one");
}
