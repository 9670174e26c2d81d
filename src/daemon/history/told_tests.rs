use super::*;
use crate::output::{Full, Stream};

struct Bench {
    told: Told,
    now: Instant,
}

const ALL: Files = Files::INDEX;

impl Bench {
    fn new(most: usize) -> Bench {
        Bench { told: Told::new(most), now: Instant::now() }
    }

    fn add(&mut self, created_ns: i64) -> (JobId, Arc<Watermark>) {
        let (id, output) = (JobId::random(), Watermark::new());
        let job = Added {
            id,
            dir: "/x".into(),
            created_ns,
            output: output.clone(),
            samples: stream::Watermark::new(),
        };
        self.told.add(job, || {}, self.now);
        (id, output)
    }

    fn end(&mut self, id: JobId) {
        let job = Ended { id, dir: "/x".into(), created_ns: 1, ended_ns: 9 };
        self.told.end(job, self.now);
    }

    fn hand_over(&mut self) -> Vec<JobId> {
        let mut handed = Vec::new();
        while let Some(job) = self.told.next_to_hand_over(self.now) {
            let reached = job.reached.unwrap_or(Reached { rows: 7, sample_bytes: 0 });
            self.told.handed_over(job.id, ALL, reached, self.now);
            handed.push(job.id);
        }
        handed
    }

    fn rows(&mut self, id: JobId) -> Option<u64> {
        match self.told.news(id, self.now)? {
            Ok(Frame::Rows { reached, .. }) => Some(reached.rows),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn flood_is_told_once_until_an_answer_and_once_a_second() {
    let mut b = Bench::new(9);
    let (id, output) = b.add(1);
    assert_eq!(b.hand_over(), [id]);
    b.told.stored(id, 0);
    output.publish(1);
    assert_eq!(b.rows(id), Some(1));
    output.publish(2);
    assert_eq!((b.rows(id), b.told.next_news(b.now)), (None, None));
    b.now += TELL;
    assert_eq!(b.told.next_news(b.now), Some(id));
    assert_eq!(b.rows(id), Some(2));
    output.publish(3);
    assert_eq!(b.told.stored(id, 2), None);
    assert_eq!(b.rows(id), Some(3));
}

#[test]
fn waiting_jobs_come_again_after_a_lost_connection() {
    let mut b = Bench::new(2);
    let ids: Vec<JobId> = (1..=4).map(|n| b.add(n).0).collect();
    assert_eq!(b.hand_over(), ids[..2]);
    b.told.disconnected();
    assert_eq!(b.hand_over(), ids[..2]);
    b.told.remove(ids[0]);
    assert_eq!(b.hand_over(), ids[2..3]);
    b.told.disconnected();
    b.told.remove(ids[1]);
    assert_eq!(b.hand_over(), ids[2..]);
}

#[test]
fn ended_job_is_looked_at_again_before_its_end_is_told() {
    let mut b = Bench::new(9);
    let (id, output) = b.add(1);
    b.hand_over();
    output.publish(5);
    b.end(id);
    let Some(Err(again)) = b.told.news(id, b.now) else { panic!("it is handed over again") };
    assert_eq!(again.reached, None);
    let frame = b.told.handed_over(id, ALL, Reached { rows: 7, sample_bytes: 3 }, b.now);
    let reached = Reached { rows: 7, sample_bytes: 3 };
    assert_eq!(frame, Some(Frame::EndOfJob { job: id, reached, ended_ns: 9 }));
    assert!(b.told.news(id, b.now).is_none() && b.told.has_ended(id));
    assert!(b.told.remove(id).is_some() && !b.told.has(id));
}

#[test]
fn durable_rows_are_released_when_there_are_many() {
    let mut b = Bench::new(9);
    let (id, _output) = b.add(1);
    b.hand_over();
    assert_eq!(b.told.stored(id, 255), None);
    assert_eq!(b.told.stored(id, 256), Some(("/x".into(), 256, false)));
    assert_eq!(b.told.stored(id, 100), None, "what is durable stays durable");
    assert_eq!(b.told.stored(id, 511), None);
}

#[test]
fn job_without_room_is_handed_over_again_after_a_while() {
    let mut b = Bench::new(9);
    let (id, _output) = b.add(1);
    b.hand_over();
    b.told.found_no_room(id, b.now);
    assert_eq!(b.hand_over(), []);
    b.now += BUSY;
    assert_eq!((b.told.wake_at(), b.hand_over()), (Some(b.now), vec![id]));
}

#[test]
fn job_that_begins_to_wait_gets_what_is_durable_of_all_jobs() {
    let mut b = Bench::new(9);
    let ((quiet, _), (waiting, output)) = (b.add(1), b.add(2));
    b.hand_over();
    assert_eq!(b.told.stored(quiet, 3), None, "too little to be worth while");
    assert_eq!(b.told.stored(waiting, 5), None);
    assert_eq!(b.told.pressed(waiting), []);
    output.set_waits(Stream::Stdout, Some(Full::Job));
    let mut freed: Vec<_> = b.told.pressed(waiting).into_iter().map(|(id, _, rows)| (id, rows)).collect();
    freed.sort_by_key(|(_, rows)| *rows);
    assert_eq!(freed, [(quiet, 3), (waiting, 5)]);
    assert_eq!(b.told.pressed(waiting), [], "once");
    assert!(b.told.stored(quiet, 4).is_some_and(|(_, rows, waits)| rows == 4 && waits));
    b.told.remove(waiting);
    assert_eq!(b.told.stored(quiet, 5), None);
}
