//! Rules about the programs that come out: no async runtime in what runs as root or beside the user.

use std::path::Path;
use std::process::Command;

/// Crates whose symbols give an async runtime away.
const RUNTIMES: &[&str] = &["tokio", "async_std", "smol", "async_executor", "rusoto", "hyper"];

/// The demangled names of every symbol in a program.
fn symbols(program: &Path) -> String {
    let out = Command::new("nm").arg("-C").arg(program).output().expect("nm is installed (binutils)");
    assert!(out.status.success(), "nm {}: {}", program.display(), String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn runtimes_in(symbols: &str) -> Vec<String> {
    let owned = |line: &str, name: &str| {
        // A path segment `name::`, not a part of a longer word.
        line.match_indices(name).any(|(at, _)| {
            line[at + name.len()..].starts_with("::")
                && !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
        })
    };
    let hits = symbols.lines().filter(|line| RUNTIMES.iter().any(|name| owned(line, name)));
    hits.take(5).map(str::to_owned).collect()
}

#[test]
fn joblet_and_rnx_link_no_async_runtime() {
    for program in
        [env!("CARGO_BIN_EXE_joblet"), env!("CARGO_BIN_EXE_rnx"), env!("CARGO_BIN_EXE_joblet-resolver")]
    {
        let symbols = symbols(Path::new(program));
        assert!(symbols.contains("joblet"), "{program} is stripped: the proof needs its symbols");
        assert_eq!(runtimes_in(&symbols), Vec::<String>::new(), "{program}");
    }
}

/// It reads what jobs send: nothing is in its memory that it does not need.
#[test]
fn resolver_links_neither_grpc_nor_openssl_nor_sqlite() {
    let symbols = symbols(Path::new(env!("CARGO_BIN_EXE_joblet-resolver")));
    let foreign = ["grpc_core::", " SSL_", " sqlite3_", "protobuf::"];
    let found: Vec<_> =
        symbols.lines().filter(|line| foreign.iter().any(|name| line.contains(name))).collect();
    assert_eq!(found, Vec::<&str>::new());
}

#[test]
fn a_runtime_would_be_seen() {
    assert_eq!(runtimes_in("0000 T tokio::runtime::Builder::build\n").len(), 1);
    assert_eq!(runtimes_in("0000 T <alloc::vec::Vec<tokio::task::Id> as Drop>::drop\n").len(), 1);
    assert_eq!(runtimes_in("0000 T joblet::not_tokio::x\n"), Vec::<String>::new());
}

#[test]
fn joblet_init_is_small_static_and_needs_no_library() {
    let init = Path::new(env!("OUT_DIR")).join("joblet-init");
    let bytes = std::fs::read(&init).expect("build.rs made joblet-init");
    assert!(bytes.len() < 64 * 1024, "{} bytes: a runtime has crept in", bytes.len());
    let out = Command::new("readelf").args(["--wide", "--program-headers", "--dynamic"]).arg(&init).output();
    let text = String::from_utf8_lossy(&out.expect("readelf is installed (binutils)").stdout).into_owned();
    assert!(!text.contains("INTERP") && !text.contains("NEEDED"), "{text}");
    // A static program of this size cannot hold a runtime; its strings say so too.
    let words = String::from_utf8_lossy(&bytes);
    assert!(RUNTIMES.iter().all(|name| !words.contains(name)));
}
