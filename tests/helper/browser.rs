//! A real browser: Debian's Chromium, led by its chromedriver over the WebDriver protocol (W3C), which is JSON over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::packages::unpacked;
use super::wait::eventually;

/// A browser with one window.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts it; what it keeps goes below `dir`.
    ///
    /// # Errors
    /// There are no packages, as a sentence.
    pub fn start(dir: &Path) -> Result<Browser, String> {
        Browser::start_with(dir, &json!({ "browser": "ALL" }))
    }

    /// One that notes its tasks for [`Browser::longest_task`].
    ///
    /// # Errors
    /// As [`Browser::start`].
    pub fn start_traced(dir: &Path) -> Result<Browser, String> {
        Browser::start_with(dir, &json!({ "browser": "ALL", "performance": "ALL" }))
    }

    fn start_with(dir: &Path, logs: &Value) -> Result<Browser, String> {
        let tree = unpacked(&["chromium", "chromium-driver", "fonts-dejavu-core"])?;
        let libraries =
            ["usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio", "usr/lib/chromium"];
        let libraries = libraries.map(|path| tree.join(path).display().to_string()).join(":");
        let fonts = dir.join("fonts.conf");
        let config = format!(
            "<fontconfig><alias><family>system-ui</family><prefer><family>DejaVu Sans</family></prefer></alias>\
             <dir>{}/usr/share/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{}</cachedir></fontconfig>",
            tree.display(),
            dir.join("fonts").display()
        );
        std::fs::write(&fonts, config).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new(tree.join("usr/bin/chromedriver"))
            .arg(format!("--port={port}"))
            .env("LD_LIBRARY_PATH", libraries)
            .env("FONTCONFIG_FILE", fonts)
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut browser = Browser { driver, port, session: String::new() };
        eventually("chromedriver listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        let mut options = json!({
            "binary": tree.join("usr/lib/chromium/chromium"),
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en",
                "--no-first-run", format!("--user-data-dir={}", dir.join("profile").display()),
            ],
        });
        if logs.get("performance").is_some() {
            let tasks = json!({ "enableNetwork": false, "enablePage": false, "traceCategories": "toplevel" });
            options["perfLoggingPrefs"] = tasks;
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs,
            "timeouts": { "script": 90_000 },
        }}});
        let made = browser.call("POST", "/session", &wanted);
        browser.session = made["sessionId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        Ok(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.port,
            body.len()
        );
        connection.write_all((head + &body).as_bytes()).unwrap();
        let answer = read(&mut connection);
        answer["value"].clone()
    }

    /// A command of the session.
    pub fn ask(&self, path: &str, body: &Value) -> Value {
        let value = self.call("POST", &format!("/session/{}/{path}", self.session), body);
        assert!(value.get("error").is_none(), "{path} {body}: {value}");
        value
    }

    /// A command of Chromium's own protocol.
    pub fn command(&self, name: &str, parameters: &Value) -> Value {
        self.ask("goog/cdp/execute", &json!({ "cmd": name, "params": parameters }))
    }

    /// Opens an address.
    pub fn open(&self, url: &str) {
        self.ask("url", &json!({ "url": url }));
    }

    /// The value of an expression in the page.
    pub fn value(&self, expression: &str) -> Value {
        self.ask("execute/sync", &json!({ "script": format!("return ({expression})"), "args": [] }))
    }

    /// Waits until an expression in the page is true, and returns its value.
    #[track_caller]
    pub fn until(&self, expression: &str) -> Value {
        let started = Instant::now();
        loop {
            let script = format!(
                "const done = arguments[0], until = Date.now() + 3000; const look = () => {{ let found = null; \
                 try {{ found = {expression}; }} catch (why) {{ }} \
                 if (found || Date.now() > until) done(found); else setTimeout(look, 20); }}; look();"
            );
            let found = self.ask("execute/async", &json!({ "script": script, "args": [] }));
            if !matches!(found, Value::Null | Value::Bool(false)) && found != json!("") && found != json!(0) {
                return found;
            }
            if started.elapsed() > Duration::from_secs(60) {
                let page = self.value("document.body.innerText.slice(0, 2000)");
                panic!("never true: {expression}\npage: {page}\nlog: {:?}", self.messages());
            }
        }
    }

    fn element(&self, selector: &str) -> String {
        self.until(&format!("document.querySelector({selector:?}) !== null"));
        let found = self.ask("element", &json!({ "using": "css selector", "value": selector }));
        found.as_object().and_then(|ids| ids.values().next()).and_then(Value::as_str).unwrap().to_owned()
    }

    /// Clicks on an element as a person does.
    pub fn click(&self, selector: &str) {
        let id = self.element(selector);
        self.ask(&format!("element/{id}/click"), &json!({}));
    }

    /// Types into an element.
    pub fn enter(&self, selector: &str, text: &str) {
        let id = self.element(selector);
        self.ask(&format!("element/{id}/value"), &json!({ "text": text }));
    }

    /// Presses a key where the focus is.
    pub fn press(&self, key: char) {
        let keys = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        self.ask("actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": keys }] }));
    }

    /// Size and colours of the window.
    pub fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", &size);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", &features);
    }

    /// Writes what is to be seen.
    pub fn picture(&self, file: &PathBuf) {
        // The frame behind the next one has the new size.
        let frames = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(true)));";
        self.ask("execute/async", &json!({ "script": frames, "args": [] }));
        let shot = self.command("Page.captureScreenshot", &json!({ "format": "png" }));
        let bytes = openssl::base64::decode_block(shot["data"].as_str().unwrap()).unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    /// The longest task of a page but one, which is the start of its process: the processor time of its thread, which other load
    /// of the machine does not lengthen.
    pub fn longest_task(&self) -> Duration {
        let entries = self.ask("se/log", &json!({ "type": "performance" }));
        let message = |entry: &Value| -> Option<Value> {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            Some(message["message"]["params"].clone())
        };
        let events: Vec<Value> = entries.as_array().unwrap().iter().filter_map(message).collect();
        let thread = |event: &Value| (event["pid"].as_i64(), event["tid"].as_i64());
        let of_pages = events.iter().filter(|event| event["args"]["name"] == "CrRendererMain").map(thread);
        let of_pages: Vec<_> = of_pages.collect();
        let tasks = events.iter().filter(|event| of_pages.contains(&thread(event)));
        let mut times: Vec<u64> = tasks.filter_map(|event| event["tdur"].as_u64()).collect();
        times.sort_unstable();
        let longest = times.iter().rev().nth(1);
        Duration::from_micros(*longest.expect("the browser notes the processor time of its tasks"))
    }

    /// Has files that are downloaded go into a directory.
    pub fn download_into(&self, dir: &Path) {
        let place = json!({ "behavior": "allow", "downloadPath": dir });
        self.command("Browser.setDownloadBehavior", &place);
    }

    /// Everything that the browser has complained about since the last call.
    pub fn messages(&self) -> Vec<String> {
        let entries = self.ask("se/log", &json!({ "type": "browser" }));
        let text = |entry: &Value| format!("{} {}", entry["level"], entry["message"]);
        entries.as_array().map(|entries| entries.iter().map(text).collect()).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.call("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// An answer of the driver, which keeps the connection open.
fn read(connection: &mut TcpStream) -> Value {
    let mut bytes = Vec::new();
    let mut part = [0; 1 << 16];
    loop {
        let got = connection.read(&mut part).unwrap();
        bytes.extend_from_slice(&part[..got]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, _)) = text.split_once("\r\n\r\n") else {
            assert!(got > 0, "chromedriver has gone");
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        let body = &bytes[head.len() + 4..];
        if body.len() >= length.unwrap() {
            return serde_json::from_slice(body).unwrap();
        }
        assert!(got > 0, "chromedriver has gone");
    }
}
