//! The thread that looks at the host for whoever asks. Without anybody it sleeps.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::cloud::{self, Cloud, Provider, Strings};
use super::metadata;
use super::part::Parts;
use super::reading::{Files, Reading};
use super::sample::{Sample, Shared};
use crate::diag::{self, Level};

/// The shortest interval of shares and rates, and the time from one reading to the next.
pub const SHORTEST: Duration = Duration::from_millis(200);
/// The longest one of somebody who asks once: what an hour ago was is of no use.
const LONGEST: Duration = Duration::from_secs(30);
/// Questions that wait. Calls and streams of a client have their own bounds, and each has one question here at most.
const WAITING: usize = 1024;

/// The settings of the thread.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The places of the files.
    pub files: Files,
    /// Whether it reads the firmware's strings and calls the cloud's metadata service.
    pub detects_cloud: bool,
}

/// Takes one sample, or the reason why there is none.
pub type Answer = Box<dyn FnOnce(Result<Shared, String>) + Send>;

enum Question {
    Once(Answer),
    Follow(Weak<Shelf>),
}

/// The handle of the thread, which ends with the last one.
#[derive(Clone)]
pub struct Watcher {
    questions: Sender<Question>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

/// The newest sample of one reader, and its wish.
struct Shelf {
    interval: Duration,
    parts: Parts,
    newest: Mutex<Option<Result<Shared, String>>>,
    notify: Box<dyn Fn() + Send + Sync>,
}

/// Samples at an interval, until it is dropped. A reader that is slow misses samples and never delays one.
pub struct Feed(Arc<Shelf>);

impl Feed {
    /// The newest sample, unless it was taken before.
    pub fn take(&self) -> Option<Result<Shared, String>> {
        lock(&self.0.newest).take()
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feed({:?})", self.0.interval)
    }
}

impl Watcher {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(settings: Settings) -> io::Result<Watcher> {
        let (questions, inbox) = crossbeam_channel::bounded(WAITING);
        let work = move || {
            crate::sys::thread::be_nice();
            let (cloud, since) = (Arc::default(), Instant::now());
            Work { settings, cloud, last: None, readers: Vec::new(), since }.run(&inbox);
        };
        std::thread::Builder::new().name("host-watcher".into()).spawn(work)?;
        Ok(Watcher { questions })
    }

    /// Asks for one sample with all parts. `false`: too many ask already, and `answer` is dropped.
    pub fn ask(&self, answer: Answer) -> bool {
        self.questions.try_send(Question::Once(answer)).is_ok()
    }

    /// Has samples of these parts taken at an interval; the first one comes within half a second. `notify` is called after each and must
    /// not block. `None`: too many ask already.
    pub fn follow(
        &self,
        interval: Duration,
        parts: Parts,
        notify: Box<dyn Fn() + Send + Sync>,
    ) -> Option<Feed> {
        let shelf = Arc::new(Shelf { interval, parts, newest: Mutex::default(), notify });
        self.questions.try_send(Question::Follow(Arc::downgrade(&shelf))).ok()?;
        Some(Feed(shelf))
    }
}

/// Somebody who waits for a sample.
struct Reader {
    question: Question,
    parts: Parts,
    /// The beginning of the interval.
    before: Arc<Reading>,
    due: Instant,
}

impl Reader {
    fn is_there(&self) -> bool {
        match &self.question {
            Question::Once(_) => true,
            Question::Follow(shelf) => shelf.strong_count() > 0,
        }
    }
}

struct Work {
    settings: Settings,
    /// `None`: nobody has asked for a sample yet.
    cloud: Arc<Mutex<Option<Option<Cloud>>>>,
    /// The last reading, with its parts.
    last: Option<(Arc<Reading>, Parts)>,
    readers: Vec<Reader>,
    /// The beginning of the beats at which readings are taken.
    since: Instant,
}

impl Work {
    fn run(mut self, inbox: &Receiver<Question>) {
        loop {
            let due = self.readers.iter().map(|reader| reader.due).min();
            let question = match due {
                Some(due) => inbox.recv_deadline(due),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match question {
                Ok(question) => self.begin(question),
                Err(RecvTimeoutError::Timeout) => self.serve(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Takes the beginning of an interval: the last reading if it is not too old, else one of now.
    fn begin(&mut self, question: Question) {
        let parts = match &question {
            Question::Once(_) => Parts::ALL,
            Question::Follow(shelf) => match shelf.upgrade() {
                Some(shelf) => shelf.parts,
                None => return,
            },
        };
        let usable =
            |(before, of): &(Arc<Reading>, Parts)| of.and(parts) == *of && before.at.elapsed() < LONGEST;
        let before = match self.last.clone().filter(usable) {
            Some((before, _)) => Ok(before),
            None => self.read(parts),
        };
        match before {
            Ok(before) => {
                let due = self.beat(before.at + SHORTEST);
                self.readers.push(Reader { question, parts, before, due });
            }
            Err(why) => drop(give(question, Err(why))),
        }
    }

    /// The first beat from this time on. There are five a second, so that any number of readers cost five readings.
    fn beat(&self, from: Instant) -> Instant {
        let past = from.saturating_duration_since(self.since).as_millis();
        let beats = past.div_ceil(SHORTEST.as_millis());
        self.since + SHORTEST * u32::try_from(beats).unwrap_or(u32::MAX)
    }

    /// Gives each reader that is due its sample; all of them share one reading.
    fn serve(&mut self, now: Instant) {
        let all = std::mem::take(&mut self.readers);
        let (due, later): (Vec<Reader>, Vec<Reader>) =
            all.into_iter().filter(Reader::is_there).partition(|reader| reader.due <= now);
        self.readers = later;
        let Some(parts) = due.iter().map(|reader| reader.parts).reduce(Parts::and) else { return };
        let reading = self.read(parts);
        for Reader { question, parts, before, due } in due {
            let sample = reading.as_ref().map_err(Clone::clone).map(|now| self.between(&before, now, parts));
            let (Some((question, interval)), Ok(before)) = (give(question, sample), reading.clone()) else {
                continue;
            };
            // A host that was asleep gets one sample, not all that it missed.
            let due = self.beat((due + interval).max(now));
            self.readers.push(Reader { question, parts, before, due });
        }
    }

    fn between(&self, before: &Reading, now: &Reading, parts: Parts) -> Shared {
        Arc::new(Sample::between(&self.settings.files, before, now, parts, self.cloud()))
    }

    fn read(&mut self, parts: Parts) -> Result<Arc<Reading>, String> {
        match self.settings.files.read(parts) {
            Ok(reading) => {
                let reading = Arc::new(reading);
                self.last = Some((reading.clone(), parts));
                Ok(reading)
            }
            Err(why) => {
                diag::limited!(Level::Error, "cannot look at the host", error = why);
                Err(format!("cannot look at the host: {why}"))
            }
        }
    }

    /// The cloud, as far as it is known now. The first call has its metadata service asked, beside this thread.
    fn cloud(&self) -> Option<Cloud> {
        if !self.settings.detects_cloud {
            return None;
        }
        let mut known = lock(&self.cloud);
        if known.is_none() {
            let found = firmware(&self.settings.files.sys);
            if let Some((provider, cloud)) = found.clone().filter(|(provider, _)| *provider != Provider::None)
            {
                ask_service(self.cloud.clone(), provider, cloud);
            }
            *known = Some(found.map(|(_, cloud)| cloud));
        }
        known.clone().flatten()
    }
}

/// Has the metadata service of the cloud asked, once for the life of the process. Without a thread, or without an answer,
/// the firmware's words remain.
fn ask_service(known: Arc<Mutex<Option<Option<Cloud>>>>, provider: Provider, mut cloud: Cloud) {
    let ask = move || {
        metadata::complete(&mut cloud, provider, metadata::SERVICE);
        *lock(&known) = Some(Some(cloud));
    };
    if let Err(why) = std::thread::Builder::new().name("cloud".into()).spawn(ask) {
        diag::limited!(Level::Warn, "cannot ask the metadata service of the cloud", error = why);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a sample to who asked; the question and its interval, where more are to come.
fn give(question: Question, sample: Result<Shared, String>) -> Option<(Question, Duration)> {
    match question {
        Question::Once(answer) => {
            answer(sample);
            None
        }
        Question::Follow(weak) => {
            let shelf = weak.upgrade()?;
            *lock(&shelf.newest) = Some(sample);
            (shelf.notify)();
            Some((Question::Follow(weak), shelf.interval))
        }
    }
}

/// The cloud that the firmware names.
fn firmware(sys: &Path) -> Option<(Provider, Cloud)> {
    let dir = sys.join("class/dmi/id");
    let texts = cloud::FILES.map(|file| std::fs::read_to_string(dir.join(file)).unwrap_or_default());
    let [vendor, product, bios, asset] = texts.each_ref().map(|text| text.trim());
    let (provider, hypervisor) = cloud::detect(Strings { vendor, product, bios, asset })?;
    let cloud = Cloud { provider: provider.name().into(), hypervisor: hypervisor.into(), ..Cloud::default() };
    Some((provider, cloud))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher() -> Watcher {
        Watcher::start(Settings { files: Files::default(), detects_cloud: false }).unwrap()
    }

    #[test]
    fn one_who_asks_gets_a_sample_of_a_short_time() {
        let watcher = watcher();
        let (send, samples) = crossbeam_channel::unbounded();
        for _ in 0..3 {
            let send = send.clone();
            assert!(watcher.ask(Box::new(move |sample| send.send(sample.unwrap()).unwrap())));
        }
        for _ in 0..3 {
            let sample = samples.recv().unwrap();
            assert!(sample.memory.total > 0 && sample.cloud.is_none() && sample.parts == Parts::ALL);
        }
    }

    #[test]
    fn readers_have_their_own_interval_and_parts_until_they_go() {
        let watcher = watcher();
        let (send, moves) = crossbeam_channel::unbounded();
        let follow = |number: u8, seconds: u64, parts| {
            let send = send.clone();
            let notify = Box::new(move || send.send(number).unwrap());
            watcher.follow(Duration::from_secs(seconds), parts, notify).unwrap()
        };
        let quick = follow(1, 1, Parts::named(["cpu"]).unwrap());
        let slow = follow(2, 3600, Parts::ALL);
        let mut seen = [0; 3];
        while seen[1] < 3 || seen[2] < 1 {
            seen[usize::from(moves.recv().unwrap())] += 1;
        }
        assert_eq!(seen[2], 1, "its first sample, and no second one for an hour");
        let sample = quick.take().unwrap().unwrap();
        assert!(sample.disks.is_empty() && sample.processes.total == 0);
        assert!(slow.take().unwrap().unwrap().processes.total > 0);
        assert!(slow.take().is_none());
        drop((quick, slow));
        // The thread lets go of the notifications, and with them of the channel.
        drop(send);
        assert!(moves.iter().all(|number| number == 1));
    }

    #[test]
    fn unreadable_host_is_an_error_for_everybody_who_asks() {
        let files = Files { proc: "/nowhere".into(), ..Files::default() };
        let watcher = Watcher::start(Settings { files, detects_cloud: false }).unwrap();
        let (send, samples) = crossbeam_channel::unbounded();
        assert!(watcher.ask(Box::new(move |sample| send.send(sample.map(drop)).unwrap())));
        assert!(samples.recv().unwrap().unwrap_err().starts_with("cannot look at the host: "));
        let feed = watcher.follow(Duration::from_secs(1), Parts::ALL, Box::new(|| {})).unwrap();
        while feed.take().is_none_or(|sample| sample.is_ok()) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn firmware_of_a_machine_is_read_from_its_files() {
        let sys = tempfile::tempdir().unwrap();
        let dir = sys.path().join("class/dmi/id");
        std::fs::create_dir_all(&dir).unwrap();
        assert!(firmware(sys.path()).is_none());
        std::fs::write(dir.join("sys_vendor"), "QEMU\n").unwrap();
        let (provider, cloud) = firmware(sys.path()).unwrap();
        assert_eq!(
            (provider, cloud.hypervisor.as_str(), cloud.provider.as_str()),
            (Provider::None, "QEMU", "")
        );
    }
}
