//! The pages of `rnx dashboard` in a real browser: each page, each action, and texts that would like to be code. Pictures of
//! all of them are kept in the cache of the tests, below `dashboard/`.

use crate::helper::browser::Browser;
use crate::helper::programs::cache;
use crate::helper::wait::{eventually, holds};
use crate::helper::web::Dashboard;
use crate::helper::{TestDaemon, gate, soak, workflow};
use joblet::pb::joblet::RunJobRequest;

const HOSTILE: &str = "<img src=x onerror=alert(1)><script>alert(2)</script>";
const SIZES: [(u32, u32); 2] = [(1280, 800), (390, 844)];

/// Pictures of a page in both sizes and colours; it must fit into the width.
fn pictures(browser: &Browser, name: &str) {
    for (width, height) in SIZES {
        for scheme in ["light", "dark"] {
            browser.look(width, height, scheme);
            browser.picture(&cache().join(format!("dashboard/{name}-{width}-{scheme}.png")));
        }
        let wide =
            browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(wide, 0, "{name} is wider than {width} pixels");
    }
    browser.look(1280, 800, "light");
}

/// Fails if a policy was violated, a script has failed or a text was executed.
fn nothing_was_executed(browser: &Browser) {
    let messages = browser.messages();
    // The browser lists refused changes and broken streams too.
    let bad = |text: &&String| text.contains("Content Security Policy") || text.contains("Uncaught");
    assert_eq!(messages.iter().filter(bad).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(browser.value("document.querySelectorAll('main img, main script, main iframe').length"), 0);
}

/// A browser at the first page.
fn visit(d: &TestDaemon, web: &Dashboard) -> Result<Browser, String> {
    let browser = Browser::start(d.dir())?;
    browser.look(1280, 800, "light");
    browser.open(&web.first_address());
    assert_eq!(browser.until("location.pathname + location.search"), "/", "the token is not in the address");
    Ok(browser)
}

#[test]
fn pages_show_and_do_everything_and_execute_no_text() {
    let d = TestDaemon::start();
    let web = Dashboard::start(&d, "default");
    let browser = match visit(&d, &web) {
        Ok(browser) => browser,
        Err(why) => skip!(why),
    };
    let script = "printf '%b\\n' \"$0\" '\\033[1;31mred\\033[0m plain' '\\0342\\0200\\0256turned'; \
                  head -c 10000000 /dev/zero | tr '\\0' '<'; echo; echo wrong >&2; exit 3";
    assert_eq!(d.run(["--name", "hostile", "sh", "-c", script, HOSTILE]).code, 3);
    browser.until(
        "[...document.querySelectorAll('.job-row .why')].some((e) => e.textContent.startsWith('exit 3'))",
    );
    (0..30).for_each(|n| drop(d.submit(["--name", &format!("job-{n}"), "true"])));
    browser.until("document.querySelector('.count').textContent.startsWith('31 jobs')");
    pictures(&browser, "jobs");
    browser.enter("input[type=search]", "hostile <img");
    browser.until("document.querySelector('.count').textContent.startsWith('1 job,')");
    browser.click(".job-row .name a");
    // A line of ten million letters is in rows of 4096.
    browser.until("document.querySelector('.log .pane-state').textContent.endsWith('complete')");
    browser.until("document.querySelector('.line.stderr .text')?.textContent === 'wrong'");
    browser.value("(document.querySelector('.log .rows').scrollTop = 0, 1)");
    browser.until("document.querySelector('.log .text')?.textContent.startsWith('<img src=x')");
    browser.until("document.querySelector('.line .front1.bold')?.textContent === 'red'");
    browser.until(
        "[...document.querySelectorAll('.line .text')].some((e) => e.textContent === '<U+202E>turned')",
    );
    pictures(&browser, "ended");
    browser.enter(".log input[type=search]", "plain");
    browser.until("document.querySelectorAll('.line').length === 1 && document.querySelector('mark')?.textContent === 'plain'");
    browser.value("(() => { const s = document.querySelector('.log select'); s.value = 'apart'; s.dispatchEvent(new Event('change')); return 1; })()");
    browser.until("document.querySelectorAll('.pane').length === 2");
    nothing_was_executed(&browser);
    run_and_stop(&browser);
    cancel_scheduled(&d, &browser);
    use_the_log(&d, &browser);
    others(&d, &browser);
    nothing_was_executed(&browser);
}

/// A job from the form to its deletion.
fn run_and_stop(browser: &Browser) {
    browser.click("nav a");
    browser.click("button.main");
    browser.enter("#run-command", "sh -c 'echo started; while :; do :; done'");
    browser.enter("#run-name", "from-the-form");
    browser.enter("#run-maxMemory", "64");
    browser.enter("#run-maxCPU", "50");
    pictures(browser, "form");
    browser.click("dialog button.main");
    browser.until("document.querySelector('h1')?.textContent === 'from-the-form'");
    browser.until("[...document.querySelectorAll('.line .text')].some((e) => e.textContent === 'started')");
    browser.until("document.querySelector('.curve0').getAttribute('d')");
    assert!(browser.value("document.body.innerText").as_str().unwrap().contains("64 MiB"));
    browser.click("details summary");
    browser.until("document.querySelectorAll('details[open] tbody tr').length > 10");
    pictures(browser, "running");
    browser.click("button.danger");
    browser.until("document.querySelector('dialog').open");
    // The answer that has the focus is the harmless one.
    browser.press('\u{E007}');
    browser.until("!document.querySelector('dialog').open");
    browser.click("button.danger");
    browser.click("dialog button.danger");
    browser.until("document.querySelector('.status').textContent === 'STOPPED'");
    browser.until("[...document.querySelectorAll('button.danger')].some((e) => e.textContent === 'Delete')");
    browser.click(".tools button.danger");
    browser.click("dialog button.danger");
    browser.until("location.hash === '#/jobs' && document.querySelector('.job-row .name')");
}

/// A job that has not started, from the list to its cancellation.
fn cancel_scheduled(d: &TestDaemon, browser: &Browser) {
    let id = d.submit(["--name", "tomorrow", "--schedule", "1d", "true"]);
    // The list keeps what was searched for before.
    browser.value("(() => { const s = document.querySelector('.tools input'); s.value = ''; s.dispatchEvent(new Event('input')); return 1; })()");
    browser.value("(() => { const s = document.querySelector('.tools select'); s.value = 'SCHEDULED'; s.dispatchEvent(new Event('change')); return 1; })()");
    browser.until("document.querySelector('.count').textContent.startsWith('1 job,')");
    browser.click(".job-row .name a");
    browser.until("document.querySelector('.tools button.danger')?.textContent === 'Cancel'");
    browser.click(".tools button.danger");
    browser.until("document.querySelector('dialog').open");
    browser.press('\u{E007}');
    browser.until("!document.querySelector('dialog').open");
    assert_eq!(d.status(&id)["status"], "SCHEDULED", "the question was answered with Back");
    browser.click(".tools button.danger");
    browser.click("dialog button.danger");
    browser.until("document.querySelector('.status').textContent === 'CANCELED'");
    browser.until("document.querySelector('.tools button.danger')?.textContent === 'Delete'");
    assert_eq!(d.status(&id)["status"], "CANCELED");
}

/// The controls of an output: streams, times, following, a time to go to, both ends and the file.
fn use_the_log(d: &TestDaemon, browser: &Browser) {
    let (go, wait) =
        (gate::wait_for("go"), "s=$(date +%s); until [ $(date +%s) -gt $((s + 1)) ]; do sleep 0.05; done");
    let id = d.submit(["sh", "-c", &format!("seq 400; echo aside >&2; {go}; {wait}; echo late")]);
    browser.value(&format!("location.hash = '#/jobs/{id}'"));
    let shown = |text: &str| {
        browser.until(&format!(
            "[...document.querySelectorAll('.line .text')].some((e) => e.textContent === '{text}')"
        ))
    };
    shown("400");
    let set = |selector: &str, value: &str| {
        browser.value(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.value = '{value}'; e.dispatchEvent(new Event('change')); return 1; }})()"
        ));
    };
    set(".log select", "stderr");
    browser.until("document.querySelectorAll('.line').length === 1 && document.querySelector('.line.stderr .text')?.textContent === 'aside'");
    set(".log select", "");
    shown("400");
    // Not following, the page stays where it is when more comes.
    let follow = ".log label:nth-of-type(3) input";
    browser.click(follow);
    browser.value("(document.querySelector('.log .rows').scrollTop = 0, 1)");
    shown("1");
    gate::open(&id, "go");
    browser.until("document.querySelector('.log .pane-state').textContent === '402 lines, complete'");
    shown("1");
    browser.click(follow);
    shown("late");
    browser.click(".log label:nth-of-type(2) input");
    let time = browser.until("[...document.querySelectorAll('.line')].find((e) => e.textContent.endsWith('late')).querySelector('time').dateTime");
    let local = browser.value(&format!(
        "(() => {{ const d = new Date({time}); d.setMinutes(d.getMinutes() - d.getTimezoneOffset()); return d.toISOString().slice(0, 19); }})()"
    ));
    set(".log input[type=datetime-local]", local.as_str().unwrap());
    browser.until("document.querySelector('.log .pane-state').textContent === '1 line since then, complete'");
    shown("late");
    let button = |name: &str| {
        browser.value(&format!("([...document.querySelectorAll('.log button')].find((e) => e.textContent === '{name}').click(), 1)"));
    };
    button("From the beginning");
    shown("1");
    button("Latest");
    shown("late");
    browser.download_into(d.dir());
    browser.click(".log a.button");
    let (file, all) = (d.dir().join(format!("{id}.log")), d.rnx(["job", "log", &id]).ok());
    eventually("the output is in a file", || {
        holds(std::fs::read_to_string(&file).is_ok_and(|text| text == all))
    });
}

/// The pages besides jobs.
fn others(d: &TestDaemon, browser: &Browser) {
    d.rnx(["volume", "create", "cache", "--size", "10MB", "--type", "memory"]).ok();
    let graph = "name: nightly\njobs:\n  fetch: {command: echo, args: [a]}\n  build: {command: sleep, args: ['1000'], requires: [{fetch: COMPLETED}]}\n  \
                 check: {command: 'true', requires: [{fetch: COMPLETED}]}\n  ship: {command: 'true', requires: [{build: COMPLETED}, {check: COMPLETED}]}\n";
    let flow = workflow::start(d, graph);
    for (page, there) in [
        ("node", "document.querySelectorAll('.blocks section').length >= 5"),
        ("networks", "document.querySelectorAll('tbody tr').length >= 1"),
        ("volumes", "document.querySelector('tbody')?.textContent.includes('cache')"),
        ("runtimes", "document.querySelector('.empty, tbody tr')"),
        ("workflows", "document.querySelector('tbody')?.textContent.includes('nightly')"),
        (
            &format!("workflows/{flow}"),
            "document.querySelector('.box.running .small') && document.querySelectorAll('.box.completed').length === 2",
        ),
    ] {
        browser.value(&format!("location.hash = '#/{page}'"));
        browser.until(there);
        let headings = "[...document.querySelectorAll('table')].every((t) => t.caption && t.querySelector('thead th[scope=col]'))";
        assert_eq!(browser.value(headings), true, "each table of {page} has a caption and headings");
        pictures(browser, page.split('/').nth(1).map_or(page, |_| "workflow"));
        nothing_was_executed(browser);
    }
    browser.click(".tools button.danger");
    browser.click("dialog button.danger");
    browser.until("document.querySelector('.status').textContent === 'CANCELED'");
    d.rnx(["volume", "remove", "cache"]).ok();
}

#[test]
fn thousands_of_jobs_in_the_list_keep_the_page_responsive() {
    let d = TestDaemon::start();
    let web = Dashboard::start(&d, "default");
    let browser = match Browser::start_traced(d.dir()) {
        Ok(browser) => browser,
        Err(why) => skip!(why),
    };
    let (jobs, count) = (d.client("default"), soak::rounds(1500, 5000));
    let schedule = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
    for number in 0..count {
        let name = format!("job-{number:04}");
        let request =
            RunJobRequest { command: "true".into(), name, schedule: schedule.clone(), ..Default::default() };
        jobs.run_job(&request).unwrap();
    }
    browser.open(&web.first_address());
    let counted = |count: usize| {
        let text =
            if count < 1000 { count.to_string() } else { format!("{},{:03}", count / 1000, count % 1000) };
        browser.until(&format!("document.querySelector('.count').textContent.startsWith('{text} job')"));
    };
    counted(count);
    // Scrolling, searching and changes that come meanwhile.
    for step in 0..40 {
        let row = step * 37 % 100 * (count - 1) / 100;
        browser.value(&format!("(() => {{ const r = document.querySelector('.job-rows'); r.scrollTop = {row} * 34; return 1; }})()"));
        let name = format!("job-{:04}", count - 1 - row);
        browser.until(&format!(
            "[...document.querySelectorAll('.job-row .name a')].some((e) => e.textContent === '{name}')"
        ));
        if step % 8 == 0 {
            jobs.run_job(&RunJobRequest { command: "true".into(), ..Default::default() }).unwrap();
        }
    }
    assert!(browser.value("document.querySelectorAll('.job-row').length").as_i64().unwrap() < 100);
    browser.enter("input[type=search]", "job-007");
    counted(10);
    let longest = browser.longest_task();
    println!("longest task with {count} jobs: {longest:?} of processor time");
    assert!(longest.as_millis() > 0, "a list of {count} jobs takes some time to draw: {longest:?}");
    assert!(longest.as_millis() < 100, "a task of the page took {longest:?} of processor time");
    nothing_was_executed(&browser);
}

#[test]
fn log_of_a_million_lines_scrolls_and_a_viewer_changes_nothing() {
    let d = TestDaemon::start();
    let web = Dashboard::start(&d, "viewer");
    let browser = match Browser::start_traced(d.dir()) {
        Ok(browser) => browser,
        Err(why) => skip!(why),
    };
    browser.open(&web.first_address());
    let id = d.submit(["seq", "1000000"]);
    d.until_status(&id, "COMPLETED");
    browser.until("document.querySelector('.job-row .name a')");
    assert_eq!(
        browser.value("document.querySelectorAll('button').length"),
        0,
        "a viewer has no buttons that change"
    );
    browser.click(".job-row .name a");
    browser.until("document.querySelector('.log .pane-state').textContent.includes('complete')");
    assert_eq!(browser.value("document.querySelectorAll('button.danger').length"), 0);
    browser.value("([...document.querySelectorAll('.log button')].find((e) => e.textContent === 'From the beginning').click(), 1)");
    browser.until("document.querySelector('.log .pane-state').textContent === '1,000,000 lines, complete'");
    let first = "document.querySelector('.line .text')?.textContent === '1'";
    browser.until(first);
    // Far rows are read again, and each is where it belongs.
    for part in [0.5, 1.0, 0.25, 0.0] {
        browser.value(&format!("(() => {{ const r = document.querySelector('.log .rows'); r.scrollTop = {part} * r.scrollHeight; return 1; }})()"));
        browser.until(&format!(
            "(() => {{ const lines = [...document.querySelectorAll('.line')].map((e) => Number(e.textContent)); \
             const near = Math.abs(lines[0] - {part} * 1e6) < 3000; \
             return near && lines.length < 120 && lines.every((n, at) => n === lines[0] + at); }})()"
        ));
    }
    browser.until(first);
    let longest = browser.longest_task();
    let heap = browser.value("performance.memory.usedJSHeapSize").as_f64().unwrap() / 1e6;
    println!("longest task {longest:?} of processor time, heap {heap:.0} MB");
    assert!(longest.as_millis() > 0, "a log takes some time to draw: {longest:?}");
    assert!(longest.as_millis() < 100, "a task of the page took {longest:?} of processor time");
    assert!(heap < 200.0, "the page has {heap} MB");
    nothing_was_executed(&browser);
}

/// Script of a page: keeps the milliseconds from a line's text, a time of the clock, to its place in the page, and how much the
/// layout has shifted since.
const OBSERVE_LINES: &str = "(window.late = [], window.shift = 0, window.seen = new Set(), \
    new MutationObserver(() => { for (const e of document.querySelectorAll('.line .text')) { const t = e.textContent; \
    if (/^[0-9]{13}$/.test(t) && !window.seen.has(t)) { window.seen.add(t); window.late.push(Date.now() - Number(t)); } } }) \
    .observe(document.querySelector('.log'), { subtree: true, childList: true }), \
    new PerformanceObserver((list) => list.getEntries().forEach((e) => { window.shift += e.value; })) \
    .observe({ type: 'layout-shift' }), 1)";

#[test]
fn printed_line_is_in_the_page_at_once_and_nothing_shifts() {
    let d = TestDaemon::start();
    let web = Dashboard::start(&d, "viewer");
    let browser = match visit(&d, &web) {
        Ok(browser) => browser,
        Err(why) => skip!(why),
    };
    // Other tests may keep both processors: one of a few rounds must hold.
    let mut medians = Vec::new();
    while medians.last().is_none_or(|median| *median >= 100) && medians.len() < 4 {
        let go = gate::wait_for("go");
        let script = format!("echo begins; {go}; for i in $(seq 25); do date +%s%3N; sleep 0.1; done");
        let id = d.submit(["sh", "-c", &script]);
        browser.value(&format!("location.hash = '#/jobs/{id}'"));
        browser.until("document.querySelector('.line .text')?.textContent === 'begins'");
        // Curves appear with their first samples, above the output.
        browser.until("document.querySelector('.curve0')?.getAttribute('d')");
        browser.value(OBSERVE_LINES);
        gate::open(&id, "go");
        browser.until("document.querySelector('.log .pane-state').textContent === '26 lines, complete'");
        let mut late: Vec<i64> =
            browser.value("window.late").as_array().unwrap().iter().map(|ms| ms.as_i64().unwrap()).collect();
        assert_eq!(late.len(), 25);
        late.sort_unstable();
        medians.push(late[12]);
        let shift = browser.value("window.shift").as_f64().unwrap();
        assert!(shift < 0.01, "the layout shifts by {shift} while lines come");
    }
    println!("milliseconds from a line to the page, medians of 25: {medians:?}");
    assert!(medians.last().is_some_and(|median| *median < 100), "{medians:?} ms from a line to the page");
    nothing_was_executed(&browser);
}

#[test]
fn page_has_each_line_once_over_kills_of_the_daemon() {
    let mut d = TestDaemon::start();
    let web = Dashboard::start(&d, "viewer");
    let browser = match visit(&d, &web) {
        Ok(browser) => browser,
        Err(why) => skip!(why),
    };
    let go = gate::wait_for("go");
    let script =
        format!("i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); sleep 0.01; done; {go}; echo last");
    let id = d.submit(["sh", "-c", &script]);
    browser.value(&format!("location.hash = '#/jobs/{id}'"));
    browser.until("document.querySelector('.line .text')");
    for _ in 0..soak::rounds(2, 20) {
        d = d.crash().start();
    }
    gate::open(&id, "go");
    browser.until("document.querySelector('.log .pane-state').textContent === '301 lines, complete'");
    browser.value("(document.querySelector('.log .rows').style.height = '6000px', 1)");
    let lines = browser.until(
        "(() => { const all = [...document.querySelectorAll('.line .text')].map((e) => e.textContent); \
         return all.length === 301 && all; })()",
    );
    let expected: Vec<String> = (0..300).map(|n| n.to_string()).chain(["last".to_owned()]).collect();
    assert_eq!(lines, serde_json::json!(expected));
    nothing_was_executed(&browser);
}
