//! The build of joblet-init, and how rnx is linked.

use std::{env, error::Error, fs, path::PathBuf, process::Command};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    static_libstdcxx()?;
    init()
}

/// Links rnx with a static libstdc++. People start rnx for each command, and the four thousand symbols of the shared
/// library took a fifth of its start. The linker looks first into a directory with the archive alone, then into the
/// compiler's own, which has both. Without an archive it takes the shared library.
fn static_libstdcxx() -> Outcome {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CXX");
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let answer = Command::new(compiler).arg("-print-file-name=libstdc++.a").output();
    let Ok(answer) = answer else { return Ok(()) };
    // The compiler repeats the bare name when it does not know the file.
    let archive = PathBuf::from(String::from_utf8(answer.stdout)?.trim());
    if !archive.is_absolute() {
        return Ok(());
    }
    let dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("archives");
    fs::create_dir_all(&dir)?;
    let link = dir.join("libstdc++.a");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(archive, link)?;
    println!("cargo::rustc-link-arg-bin=rnx=-L{}", dir.display());
    Ok(())
}

/// Builds OUT_DIR/joblet-init: PID 1 of every job, a static program without a runtime, so that its exec costs next
/// to nothing. It is a crate of its own kind (`no_std`, `no_main`), which a `[[bin]]` of this package, whose
/// dependencies need std, cannot be.
fn init() -> Outcome {
    println!("cargo::rerun-if-changed=src/init");
    println!("cargo::rerun-if-changed=src/init_abi.rs");
    println!("cargo::rerun-if-changed=src/sys/raw.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("joblet-init");
    let rustc = env::var_os("RUSTC").ok_or("cargo sets RUSTC")?;
    let status = Command::new(rustc)
        .args(["--edition=2024", "--crate-name=joblet_init", "--crate-type=bin", "src/init/main.rs"])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Clto=fat", "-Ccodegen-units=1", "-Crelocation-model=static"])
        .args(["-Cdebuginfo=0", "-Cstrip=symbols", "-Cforce-unwind-tables=no"])
        .arg("-Clink-args=-nostartfiles -nostdlib -static -Wl,--build-id=none -Wl,--gc-sections -Wl,-z,norelro")
        .arg("-o")
        .arg(&out)
        .status()?;
    if status.success() { Ok(()) } else { Err("joblet-init does not build".into()) }
}
