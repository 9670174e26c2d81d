//! Jobs of the build: Rust for protos/, without protoc and without C++.

use std::{env, error::Error, fs, path::PathBuf, process::Command};

#[path = "protos/stubs.rs"]
mod stubs;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    protos()?;
    init()
}

/// OUT_DIR/joblet-init: PID 1 of every job, a static program without a runtime, so that its exec costs next
/// to nothing. It is a crate of its own kind (`no_std`, `no_main`), which a `[[bin]]` of this package, whose
/// dependencies need std, cannot be.
fn init() -> Outcome {
    println!("cargo::rerun-if-changed=src/init");
    println!("cargo::rerun-if-changed=src/job/exit_record.rs");
    println!("cargo::rerun-if-changed=src/sandbox/order_layout.rs");
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

/// OUT_DIR/pb/mod.rs with one module of messages a proto file, and OUT_DIR/pb/grpc.rs with their services.
fn protos() -> Outcome {
    let dir = PathBuf::from("protos");
    let inputs: Vec<_> =
        ["joblet", "persist", "ipc"].iter().map(|f| dir.join(f).with_extension("proto")).collect();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=protos");

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("pb");
    fs::create_dir_all(&out)?;
    protobuf_codegen::Codegen::new().pure().include(&dir).inputs(&inputs).out_dir(&out).run()?;

    let set = protobuf_parse::Parser::new().pure().include(&dir).inputs(&inputs).file_descriptor_set()?;
    fs::write(out.join("grpc.rs"), stubs::modules(&set.file))?;
    Ok(())
}
