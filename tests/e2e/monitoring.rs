//! The host as clients see it: once and as a stream, with the values that the system's own files have.

use crate::helper::daemon::{Node, RNX, TestDaemon};
use crate::helper::network::has_program;
use crate::helper::wait::{eventually, holds};
use futures_util::StreamExt;
use grpcio::RpcStatusCode;
use joblet::pb::joblet::{EmptyRequest, StreamMetricsReq, SystemMetricsRes};
use joblet::pb::joblet_grpc::MonitoringServiceClient;
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};

fn client(d: &TestDaemon, node: &str) -> MonitoringServiceClient {
    let (identity, ca) = d.identity(node);
    MonitoringServiceClient::new(d.channel(&identity, &ca))
}

/// The next message of a stream, or the status that ends it.
fn next(
    stream: &mut grpcio::ClientSStreamReceiver<SystemMetricsRes>,
) -> Result<SystemMetricsRes, (RpcStatusCode, String)> {
    match futures_executor::block_on(stream.next()) {
        Some(Ok(message)) => Ok(message),
        Some(Err(grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status)))) => {
            Err((status.code(), status.message().to_owned()))
        }
        other => panic!("{other:?}"),
    }
}

fn request(seconds: i32, types: &[&str]) -> StreamMetricsReq {
    let types = types.iter().map(|name| (*name).to_owned()).collect();
    StreamMetricsReq { intervalSeconds: seconds, metricTypes: types, ..Default::default() }
}

#[test]
fn status_has_the_values_of_the_host_for_viewers_too() {
    let d = TestDaemon::start();
    let status = client(&d, "viewer").get_system_status(&EmptyRequest::default()).unwrap();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total: i64 = meminfo.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!((status.memory.totalBytes, status.host.totalMemory), (total << 10, total << 10));
    assert!(status.memory.usedBytes > 0 && status.memory.availableBytes <= status.memory.totalBytes);
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(status.host.hostname, name.trim());
    let booted = fs::read_to_string("/proc/stat").unwrap();
    let booted = booted.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().parse().unwrap();
    assert_eq!(status.host.bootTime, jiff::Timestamp::from_second(booted).unwrap().to_string());
    let cpu = status.cpu.get_or_default();
    let sum = cpu.userTime + cpu.systemTime + cpu.idleTime + cpu.ioWaitTime + cpu.stealTime;
    assert!((99.0..101.0).contains(&sum), "{cpu:?}");
    assert_eq!((cpu.loadAverage.len(), cpu.perCoreUsage.len()), (3, status.host.cpuCount as usize));
    let processes = status.processes.get_or_default();
    assert!(processes.topByCPU.len() > 1 && processes.topByCPU.len() <= 10, "{processes:?}");
    assert!(
        processes.topByMemory.iter().all(|process| !process.user.is_empty() && !process.startTime.is_empty())
    );
    assert!(status.available && status.server_version.version == env!("CARGO_PKG_VERSION"), "{status:?}");
    // The question of `rnx version`.
    let versions = d.rnx(["--json", "version"]).json();
    assert_eq!(versions["joblet"]["version"], env!("CARGO_PKG_VERSION"), "{versions}");
}

/// The words of each line that a program of the system prints.
fn printed(program: &str, arguments: &[&str]) -> Vec<Vec<String>> {
    let out = std::process::Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Whether two numbers that are read one after the other mean the same.
fn about(one: i64, other: i64, apart: i64) -> bool {
    (one - other).abs() <= apart
}

#[test]
fn values_are_those_of_the_systems_own_tools() {
    let all = ["free", "df", "ps", "ip"].into_iter().all(has_program);
    needs!(all, "needs free(1), df(1), ps(1) and ip(8)");
    let d = TestDaemon::start();
    let seen = client(&d, "viewer").get_system_status(&EmptyRequest::default()).unwrap();
    let (free, df) = (printed("free", &["-b"]), printed("df", &["-B1", "--output=target,size,used,avail"]));
    let (ps, ip) = (printed("ps", &["-e", "-o", "pid="]), printed("ip", &["-s", "-j", "link"]));
    let number = |word: &String| word.parse::<i64>().unwrap();
    let memory = seen.memory.get_or_default();
    let row = |name: &str| free.iter().find(|row| row.first().is_some_and(|first| first == name)).unwrap();
    assert_eq!((number(&row("Mem:")[1]), number(&row("Swap:")[1])), (memory.totalBytes, memory.swapTotal));
    // Other tests come and go meanwhile.
    assert!(about(number(&row("Mem:")[6]), memory.availableBytes, 1 << 30), "{free:?} {memory:?}");
    assert!(!seen.disks.is_empty(), "a host has a disk");
    for disk in &seen.disks {
        let row = df.iter().find(|row| row.first().is_some_and(|target| *target == disk.mountPoint));
        let row = row.unwrap_or_else(|| panic!("{disk:?} is not in {df:?}"));
        assert_eq!(number(&row[1]), disk.totalBytes, "{disk:?}");
        assert!(about(number(&row[2]), disk.usedBytes, 2 << 30), "{disk:?} {row:?}");
        assert!(about(number(&row[3]), disk.freeBytes, 2 << 30), "{disk:?} {row:?}");
    }
    let processes = seen.processes.get_or_default();
    assert!(about(ps.len() as i64, i64::from(processes.totalProcesses), 200), "{} {processes:?}", ps.len());
    let links: Value = serde_json::from_str(&ip.concat().concat()).unwrap();
    for interface in &seen.networks {
        let link =
            links.as_array().unwrap().iter().find(|link| link["ifname"] == interface.interface.as_str());
        let link = link.unwrap_or_else(|| panic!("{interface:?} is not in {links}"));
        let counter = |way: &str| link["stats64"][way]["bytes"].as_i64().unwrap();
        assert!(about(counter("rx"), interface.bytesReceived, 64 << 20), "{interface:?} {link}");
        assert!(about(counter("tx"), interface.bytesSent, 64 << 20), "{interface:?} {link}");
        assert_eq!(link["address"], interface.macAddress.as_str());
    }
}

#[test]
fn stream_keeps_its_interval_and_parts_and_refuses_others() {
    let d = TestDaemon::start();
    let client = client(&d, "viewer");
    let mut stream = client.stream_system_metrics(&request(1, &["cpu", "process"])).unwrap();
    let (first, second) = (next(&mut stream).unwrap(), next(&mut stream).unwrap());
    assert!(first.timestamp <= second.timestamp && first.cpu.is_some() && first.processes.is_some());
    assert!(first.memory.is_none() && first.disks.is_empty() && first.io.is_none() && first.host.is_some());
    // A busy job is seen by whoever looks at the host.
    let id = d.submit(["sh", "-c", "while :; do :; done"]);
    eventually("the loop of the job is among the first", || {
        let seen = next(&mut stream).unwrap();
        seen.processes.topByCPU.iter().any(|process| process.command.contains("while :; do")).then_some(())
    });
    d.rnx(["job", "stop", &id]).ok();
    for (wrong, word) in [(request(-1, &[]), "intervalSeconds"), (request(1, &["gpu"]), "metricTypes")] {
        let (code, text) = next(&mut client.stream_system_metrics(&wrong).unwrap()).unwrap_err();
        assert!(code == RpcStatusCode::INVALID_ARGUMENT && text.contains(word), "{code} {text}");
    }
}

#[test]
fn rnx_prints_the_host_as_blocks_lines_and_json() {
    let d = TestDaemon::start();
    let text = d.rnx(["monitor", "status"]).ok();
    for heading in ["System Status", "Joblet Server", "Host Information", "CPU", "Memory", "Processes"] {
        assert!(text.contains(&format!("{heading}\n")), "{heading}: {text}");
    }
    let some = d.rnx(["monitor", "status", "--filter=cpu"]).ok();
    assert!(some.starts_with("CPU\n") && !some.contains("Memory"), "{some}");
    assert_eq!(d.rnx(["monitor", "status", "--compact"]).ok().lines().count(), 1);
    let json = d.rnx(["--json", "monitor", "status"]).json();
    assert!(json["cpuInfo"]["usage"].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)), "{json}");
    assert!(
        json["hostInfo"]["uptime"].as_u64() > Some(0)
            && json["processesInfo"]["totalProcesses"].as_u64() > Some(0)
    );
    let out = d.rnx(["monitor", "status", "--filter=gpu"]);
    assert!(out.code == 2 && out.stderr.contains("--filter"), "{}", out.stderr);
    let path = d.dir().join("samples");
    let mut command = d.rnx_command(["--json", "monitor", "watch", "--interval=1", "--filter=memory"]);
    let mut watching = command.stdout(fs::File::create(&path).unwrap()).spawn().unwrap();
    eventually("two samples are printed", || holds(fs::read_to_string(&path).unwrap().lines().count() >= 2));
    watching.kill().unwrap();
    watching.wait().unwrap();
    let samples = fs::read_to_string(&path).unwrap();
    let first: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    assert!(first["memoryInfo"]["total"].as_u64() > Some(0) && first.get("cpuInfo").is_none(), "{first}");
}

#[test]
fn node_that_hides_its_host_tells_its_version_alone() {
    let d = TestDaemon::with([("monitoring.enabled", false)]);
    let client = client(&d, "default");
    let status = client.get_system_status(&EmptyRequest::default()).unwrap();
    assert!(status.available && status.host.is_none() && status.cpu.is_none() && status.disks.is_empty());
    assert_eq!(status.server_version.version, env!("CARGO_PKG_VERSION"));
    let (code, text) = next(&mut client.stream_system_metrics(&request(1, &[])).unwrap()).unwrap_err();
    assert!(
        code == RpcStatusCode::FAILED_PRECONDITION && text.contains("monitoring.enabled"),
        "{code} {text}"
    );
}

/// Compares the interfaces in the network namespace of a process with `ip -s link` there.
fn counters_are_those_of_ip(pid: u32, network: &Value) {
    let out = printed("nsenter", &["--net", "--target", &pid.to_string(), "ip", "-s", "-j", "link"]);
    let links: Value = serde_json::from_str(&out.concat().concat()).unwrap();
    let seen = network["interfaces"].as_array().unwrap();
    assert!(!seen.is_empty(), "{network}");
    for interface in seen {
        let link = links.as_array().unwrap().iter().find(|link| link["ifname"] == interface["name"]);
        let stats = &link.unwrap_or_else(|| panic!("{interface} is not in {links}"))["stats64"];
        for (way, bytes, packets) in [("rx", "rxBytes", "rxPackets"), ("tx", "txBytes", "txPackets")] {
            let number = |value: &Value| value.as_i64().unwrap();
            // Only the kernel's own questions about neighbours come meanwhile.
            let of_ip = (number(&stats[way]["bytes"]), number(&stats[way]["packets"]));
            assert!(about(of_ip.0, number(&interface[bytes]), 2048), "{interface} {stats}");
            assert!(about(of_ip.1, number(&interface[packets]), 20), "{interface} {stats}");
        }
    }
}

#[test]
fn node_in_a_network_namespace_shows_the_interfaces_of_that() {
    needs!(has_program("unshare") && has_program("ip"), "needs unshare and ip");
    let node = Node::set_up();
    node.set("network.default_network", "none");
    let script = "ip link set lo up && ip link add seen0 type veth peer name seen1 && \
                  ip addr add 192.0.2.1/24 dev seen0 && ip link set seen0 up && ip link set seen1 up && exec \"$@\"";
    let daemon = node.command();
    let mut command = Command::new("unshare");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(["--net", "sh", "-c", script, "sh"]).arg(daemon.get_program()).args(daemon.get_args());
    let log = fs::File::create(node.log_path()).unwrap();
    let mut child =
        command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null()).spawn().unwrap();
    eventually("the daemon serves", || holds(node.log().contains("server started successfully")));
    let mut command = Command::new("nsenter");
    command.args(["--net", "--target", &child.id().to_string(), RNX, "--config"]);
    command.arg(node.dir().join("rnx-config.yml")).args(["--json", "monitor", "status", "--filter=network"]);
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let seen: Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {out:?}"));
    let network = seen["networkInfo"].to_string();
    assert!(network.contains("seen0") && network.contains("192.0.2.1"), "{network}");
    counters_are_those_of_ip(child.id(), &seen["networkInfo"]);
    let host = fs::read_to_string("/proc/net/route").unwrap();
    for line in host.lines().skip(1).filter(|line| !line.starts_with("seen")) {
        let name = line.split_whitespace().next().unwrap();
        assert!(!network.contains(&format!("\"{name}\"")), "{name} is the host's: {network}");
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success(), "{}", node.log());
}
