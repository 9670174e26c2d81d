use super::*;

type Item = u64;

/// The numbers up to the watermark, which ends them.
struct Numbers {
    read: Item,
    watermark: Arc<Watermark>,
}

impl Numbers {
    fn new(watermark: &Arc<Watermark>) -> Numbers {
        Numbers { read: 0, watermark: watermark.clone() }
    }
}

impl Source for Numbers {
    type Item = Item;
    type Error = &'static str;

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }

    fn next(&mut self) -> Result<Next<Item>, &'static str> {
        let (reached, ended) = self.watermark.look();
        if self.read < reached {
            self.read += 1;
            return Ok(Next::Item(self.read));
        }
        Ok(if ended { Next::End } else { Next::Pending })
    }
}

fn open(pump: &Pump<&'static str>, watermark: &Arc<Watermark>) -> StreamReader<Item, &'static str> {
    pump.open(1, Numbers::new(watermark), Box::new(|| Ok(()))).unwrap()
}

/// The items of a stream up to its end.
fn all(reader: &mut StreamReader<Item, &'static str>) -> (Vec<Item>, Result<(), &'static str>) {
    let mut items = Vec::new();
    loop {
        let next = futures_util::future::poll_fn(|cx| reader.poll_item(cx));
        match futures_executor::block_on(next).expect("the pump runs") {
            Queued::Item(item) => items.push(item),
            Queued::End(end) => return (items, end),
        }
    }
}

#[test]
fn unread_stream_holds_a_few_chunks_and_blocks_no_other_stream() {
    let pump = Pump::start("pump").unwrap();
    let watermark = Watermark::new();
    watermark.publish(1000);
    let (queue, mut items) = mpsc::channel(QUEUED);
    let (events, ready) = crossbeam_channel::unbounded::<Event<&'static str>>();
    let room = Waker::from(Arc::new(Room { id: 1, pending: AtomicBool::new(false), events }));
    let mut cx = Context::from_waker(&room);
    let mut slow = Flow { source: Numbers::new(&watermark), queue };
    for _ in 0..3 {
        assert_eq!(slow.advance(&mut cx, Instant::now() + SLICE), AfterTurn::Full);
        assert_eq!(slow.source.read, QUEUED as u64 + 1);
    }
    assert!(ready.is_empty());
    let mut quick = open(&pump, &watermark);
    watermark.end();
    assert_eq!(all(&mut quick), ((1..=1000).collect(), Ok(())));
    // Reading one makes room for one, and wakes the pump.
    assert!(items.try_recv().is_ok());
    assert!(matches!(ready.try_recv(), Ok(Event::Ready(1))));
    assert_eq!(slow.advance(&mut cx, Instant::now() + SLICE), AfterTurn::Full);
    assert_eq!(slow.source.read, QUEUED as u64 + 2);
}

#[test]
fn streams_of_several_watermarks_follow_each_its_own() {
    let pump = Pump::start("pump").unwrap();
    let watermarks = [(); 3].map(|()| Watermark::new());
    let readers: Vec<_> = (0..9).map(|n| open(&pump, &watermarks[n % 3])).collect();
    let threads = readers.into_iter().map(|mut reader| thread::spawn(move || all(&mut reader)));
    let threads: Vec<_> = threads.collect();
    for reached in 1..=200 {
        for (n, watermark) in watermarks.iter().enumerate() {
            watermark.publish(reached * (n as u64 + 1));
        }
    }
    watermarks.iter().for_each(|watermark| watermark.end());
    for (n, thread) in threads.into_iter().enumerate() {
        let last = 200 * (n as u64 % 3 + 1);
        assert_eq!(thread.join().unwrap(), ((1..=last).collect(), Ok(())));
    }
}

#[test]
fn shutdown_ends_streams_and_refuses_new_ones() {
    let pump = Pump::start("pump").unwrap();
    let watermark = Watermark::new();
    let mut reader = open(&pump, &watermark);
    pump.shut_down("closing");
    assert_eq!(all(&mut reader), (vec![], Err("closing")));
    while pump.open(1, Numbers::new(&watermark), Box::new(|| Ok(()))).err() != Some(OpenError::Closed) {
        thread::yield_now();
    }
}

/// Steps without an end and without an item, each of them one count and some time.
struct Search {
    steps: Arc<AtomicU64>,
    watermark: Arc<Watermark>,
}

impl Source for Search {
    type Item = Item;
    type Error = &'static str;

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }

    fn next(&mut self) -> Result<Next<Item>, &'static str> {
        self.steps.fetch_add(1, Ordering::SeqCst);
        let end = Instant::now() + SLICE / 4;
        while Instant::now() < end {}
        Ok(Next::Yield)
    }
}

#[test]
fn crowd_of_one_client_delays_another_by_one_slice() {
    let pump = Pump::start("pump").unwrap();
    let (steps, watermark) = (Arc::<AtomicU64>::default(), Watermark::new());
    let search = || Search { steps: steps.clone(), watermark: watermark.clone() };
    let crowd: Vec<_> = (0..200).map(|_| pump.open(1, search(), Box::new(|| Ok(()))).unwrap()).collect();
    let live = Watermark::new();
    let mut other = pump.open(2, Numbers::new(&live), Box::new(|| Ok(()))).unwrap();
    // It is idle by now, or has the second slice.
    let mut waits = Vec::new();
    for line in 1..=50 {
        let before = steps.load(Ordering::SeqCst);
        live.publish(line);
        let item = futures_executor::block_on(futures_util::future::poll_fn(|cx| other.poll_item(cx)));
        assert_eq!(item, Some(Queued::Item(line)));
        waits.push(steps.load(Ordering::SeqCst) - before);
    }
    waits.sort_unstable();
    // A slice has four steps. Our own thread may have to wait for a processor meanwhile.
    assert!(waits[25] <= 8, "steps of the crowd before each line: {waits:?}");
    drop(crowd);
}
