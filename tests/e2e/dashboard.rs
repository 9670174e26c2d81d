//! `rnx dashboard` over plain HTTP: access, answers, and streams that lose nothing.

use std::io::Write;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::helper::soak;
use crate::helper::wait::{eventually, holds};
use crate::helper::web::{Dashboard, Events};
use crate::helper::{TestDaemon, gate};

/// The text of an event of an output, byte by byte.
fn text(event: &Value) -> String {
    match event["data_base64"].as_str() {
        Some(exact) => String::from_utf8_lossy(&openssl::base64::decode_block(exact).unwrap()).into_owned(),
        None => event["data"].as_str().unwrap().to_owned(),
    }
}

#[test]
fn dashboard_lets_in_its_token_only_and_no_other_site() {
    let d = TestDaemon::start();
    let web = Dashboard::start(&d, "default");
    let other = Dashboard::start(&d, "viewer");
    let entry = web.ask("GET", &format!("/?token={}", web.token), &[], "");
    assert_eq!((entry.status, entry.header("Location")), (303, Some("/")));
    let cookie = entry.header("Set-Cookie").unwrap().split(';').next().unwrap().to_owned();
    let cookie = ("Cookie", cookie.as_str());
    let origin = format!("http://{}", web.address);
    let (ours, json) = (("Origin", origin.as_str()), ("Content-Type", "application/json"));
    let page = web.ask("GET", "/", &[cookie], "");
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    for answer in [&entry, &page, &web.get("/api/jobs"), &web.ask("GET", "/", &[], ""), &web.get("/nothing")]
    {
        let policy = answer.header("Content-Security-Policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(answer.header("Referrer-Policy"), Some("no-referrer"));
        assert!(!answer.body.contains(&web.token));
    }
    let bearer = format!("Bearer {}", other.token);
    for (headers, get, post) in [
        (vec![], 401, 401),
        (vec![("Authorization", bearer.as_str()), json], 401, 401),
        (vec![cookie, ours, json], 200, 400),
        (vec![cookie, json], 200, 403),
        (vec![cookie, ours], 200, 415),
        (vec![cookie, ours, json, ("Host", "evil.example")], 403, 403),
        (vec![cookie, json, ("Origin", "http://evil.example")], 403, 403),
        (vec![cookie, ours, json, ("Sec-Fetch-Site", "cross-site")], 403, 403),
    ] {
        assert_eq!(web.ask("GET", "/api/jobs", &headers, "").status, get, "GET {headers:?}");
        assert_eq!(web.ask("POST", "/api/jobs", &headers, "{}").status, post, "POST {headers:?}");
    }
    for (request, status) in [
        ("\0\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(20 << 10)), 431),
        ("POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".to_owned(), 413),
        (format!("DELETE / HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n", web.address, cookie.1), 405),
    ] {
        assert_eq!(web.raw(&request).status, status, "{request:.60}");
    }
    for open in ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "x"] {
        assert_eq!(d.rnx(["dashboard", "--listen", open]).code, 2, "{open}");
    }
}

#[test]
fn api_starts_shows_stops_and_deletes_what_its_role_may() {
    let d = TestDaemon::start();
    let (web, viewer) = (Dashboard::start(&d, "default"), Dashboard::start(&d, "viewer"));
    let hostile = "<script>alert(1)</script>\u{202e}\"'";
    let body = serde_json::json!({
        "name": "kept", "command": "sh", "maxMemory": 64,
        "args": ["-c", "printf '\\377</script>\\033[31m\\n'; exec sleep 1000", hostile],
        "secretEnvironment": {"KEY": "hunter2"},
    })
    .to_string();
    let refused = viewer.post("/api/jobs", &body);
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("PERMISSION_DENIED")));
    let started = web.post("/api/jobs", &body);
    assert_eq!(started.status, 200, "{started:?}");
    let id = started.json()["uuid"].as_str().unwrap().to_owned();
    let shown = viewer.get(&format!("/api/jobs/{id}"));
    assert!(!shown.body.contains("hunter2"), "{shown:?}");
    let shown = shown.json();
    assert_eq!((&shown["status"], &shown["maxMemory"]), (&"RUNNING".into(), &64.into()));
    assert_eq!(shown["args"][2], hostile);
    assert_eq!(viewer.get("/api/session").json()["role"], "viewer");
    assert_eq!(web.get("/api/session").json()["role"], "admin");
    let layers = web.get(&format!("/api/jobs/{id}/security")).json();
    assert!(layers.as_array().unwrap().iter().any(|layer| layer["layer"] == "seccomp"), "{layers}");
    let line = eventually("the line is there", || {
        web.get(&format!("/api/jobs/{id}/log")).json()["chunks"].get(0).cloned()
    });
    let bytes = openssl::base64::decode_block(line["data_base64"].as_str().unwrap()).unwrap();
    assert_eq!(bytes, b"\xff</script>\x1b[31m\n");
    let raw = web.get(&format!("/api/jobs/{id}/log/raw"));
    assert_eq!(raw.header("Content-Type"), Some("application/octet-stream"));
    assert!(raw.header("Content-Disposition").unwrap().starts_with("attachment;"), "{raw:?}");
    for action in ["stop", "cancel", "delete"] {
        assert_eq!(viewer.post(&format!("/api/jobs/{id}/{action}"), "{}").status, 403, "{action}");
    }
    assert_eq!(web.post(&format!("/api/jobs/{id}/delete"), "{}").status, 409);
    assert_eq!(web.post(&format!("/api/jobs/{id}/stop"), r#"{"grace":"0s"}"#).json()["status"], "STOPPED");
    let listed = viewer.get("/api/jobs?status=stopped&name=ke*&limit=10").json();
    assert_eq!(listed["jobs"][0]["uuid"], id);
    assert_eq!(web.get("/api/jobs/00000000").status, 404);
    for (path, key) in
        [("node", "cpuInfo"), ("networks", "networks"), ("volumes", "volumes"), ("runtimes", "runtimes")]
    {
        let found = viewer.get(&format!("/api/{path}")).json();
        assert!(found.get(key).is_some(), "{path}: {found}");
    }
    assert_eq!(web.get("/api/workflows").json(), serde_json::json!([]));
    assert_eq!(web.post(&format!("/api/jobs/{id}/delete"), "{}").status, 200);
    assert_eq!(web.get(&format!("/api/jobs/{id}")).status, 404);
}

#[test]
fn list_of_jobs_is_followed_with_every_change() {
    let d = TestDaemon::start();
    assert_eq!(d.run(["--name", "before", "true"]).code, 0);
    let web = Dashboard::start(&d, "viewer");
    let mut events = web.events("/api/events", None);
    assert_eq!(events.next().unwrap().name, "reset");
    let first = events.next().unwrap();
    let rows = |data: &Value| data.as_array().cloned().unwrap();
    assert_eq!(first.name, "jobs");
    assert!(rows(&first.data)[0]["why"].as_str().unwrap().starts_with("exit 0 in"), "{first:?}");
    let id = d.submit(["sh", "-c", "exit 3"]);
    let mut last = Value::Null;
    while last["status"] != "FAILED" {
        let event = events.next().unwrap();
        last = rows(&event.data).into_iter().find(|row| row["uuid"] == *id).unwrap_or(last);
    }
    assert!(last["why"].as_str().unwrap().starts_with("exit 3"), "{last}");
    d.rnx(["job", "delete", &id]).ok();
    let gone = events.find(|event| event.name == "gone").unwrap();
    assert_eq!(gone.data, serde_json::json!([id]));
}

/// Reads on from where the reader was, to the end of the job or to so many events.
fn read_on(events: &mut Events, most: usize, lines: &mut [String; 2], last: &mut String) -> bool {
    for event in events.take(most) {
        match event.name.as_str() {
            "output" => {
                let stream = usize::from(event.data["stream"] == "stderr");
                lines[stream].push_str(&text(&event.data));
                assert_eq!(event.data["seq"].to_string(), event.id);
                *last = event.id;
            }
            "end" => return true,
            "failure" => panic!("{event:?}"),
            _ => {}
        }
    }
    false
}

// #15: a browser that comes back continues without a gap and without a double, also over kills of the daemon.
#[test]
fn stream_of_output_has_each_line_once_over_kills_of_the_daemon() {
    let mut d = TestDaemon::start();
    let script = "i=0; while [ $i -lt 400 ]; do echo out $i; echo err $i >&2; i=$((i+1)); [ $((i % 20)) = 0 ] && sleep 0.1; done";
    let id = d.submit(["sh", "-c", script]);
    let web = Dashboard::start(&d, "viewer");
    let (path, mut lines, mut last) =
        (format!("/api/jobs/{id}/log/events"), [String::new(), String::new()], String::new());
    let mut staying = web.events(&path, None);
    for _ in 0..soak::rounds(3, 20) {
        // One reader stays, and one comes back with the id of its last event.
        let mut coming = web.events(&path, (!last.is_empty()).then_some(last.as_str()));
        read_on(&mut coming, 10, &mut lines, &mut last);
        d = d.crash().start();
    }
    while !read_on(&mut web.events(&path, Some(&last)), 50, &mut lines, &mut last) {}
    let (mut stayed, mut seen) = ([String::new(), String::new()], String::new());
    assert!(read_on(&mut staying, usize::MAX, &mut stayed, &mut seen));
    for (stream, word) in ["out", "err"].iter().enumerate() {
        let all: String = (0..400).map(|n| format!("{word} {n}\n")).collect();
        assert_eq!(lines[stream], all, "the reader that came back");
        assert_eq!(stayed[stream], all, "the reader that stayed");
    }
    let mut again = web.events(&path, Some(&last));
    assert_eq!(again.next().unwrap().name, "end", "a reader that has all is at the end");
}

#[test]
fn reader_that_reads_nothing_costs_neither_job_nor_others() {
    let d = TestDaemon::start();
    let id =
        d.submit(["sh", "-c", &format!("{}; seq 1 400000; {}", gate::wait_for("go"), gate::wait_for("end"))]);
    let web = Dashboard::start(&d, "viewer");
    let path = format!("/api/jobs/{id}/log/events");
    let before = memory(web.pid());
    let _slow: Vec<Events> = (0..8).map(|_| web.events(&path, None)).collect();
    gate::open(&id, "go");
    let mut lines = 0;
    for event in web.events(&path, None).filter(|event| event.name == "output") {
        let part = text(&event.data);
        lines += part.matches('\n').count();
        if lines == 400_000 {
            break;
        }
    }
    let grown = memory(web.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "rnx has grown by {grown} bytes");
    gate::open(&id, "end");
    d.until_status(&id, "COMPLETED");
}

/// Resident memory of a process, bytes.
fn memory(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn connections_beyond_the_limit_are_refused_and_come_back() {
    let d = TestDaemon::start();
    let web = Dashboard::start(&d, "viewer");
    let streams: Vec<Events> = (0..48).map(|_| web.events("/api/events", None)).collect();
    let refused = web.get("/api/events");
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("2")));
    assert_eq!(web.get("/api/session").status, 200, "questions have places of their own");
    let mut silent: Vec<_> = (0..60).map(|_| web.send("GET / HTTP/1.1\r\n")).collect();
    eventually("connections are refused", || holds(web.get("/api/session").status == 503));
    silent.iter_mut().for_each(|connection| drop(connection.write_all(b"\r\n")));
    drop((silent, streams));
    eventually("places are free again", || holds(web.get("/api/session").status == 200));
    kill(Pid::from_raw(web.pid()), Signal::SIGINT).unwrap();
}
