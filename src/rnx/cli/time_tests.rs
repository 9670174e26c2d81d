use super::*;
use proptest::prelude::*;

/// Central Europe by its rule, so that no test depends on the host's table of time zones.
fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn now() -> Zoned {
    "2026-07-01T10:00:00Z".parse::<Timestamp>().unwrap().to_zoned(berlin())
}

fn at(text: &str) -> String {
    schedule(text, &now()).unwrap_or_else(|e| panic!("{text}: {e}")).time.to_string()
}

fn why(text: &str) -> String {
    let e = schedule(text, &now()).map(|g| panic!("{text} was taken: {g:?}")).unwrap_err();
    e.to_string().strip_prefix(&format!("invalid value {text:?} for --schedule: ")).unwrap().to_string()
}

#[test]
fn delays_add_up_in_every_spelling() {
    for (text, time) in [
        ("1hour", "2026-07-01T11:00:00Z"),
        ("30min", "2026-07-01T10:30:00Z"),
        ("2h30m", "2026-07-01T12:30:00Z"),
        ("45s", "2026-07-01T10:00:45Z"),
        ("5s", "2026-07-01T10:00:05Z"),
        ("2min", "2026-07-01T10:02:00Z"),
        ("1h", "2026-07-01T11:00:00Z"),
        ("1d", "2026-07-02T10:00:00Z"),
        ("+10s", "2026-07-01T10:00:10Z"),
        ("+ 10 s", "2026-07-01T10:00:10Z"),
        (" 2 hours 5 minutes\t1 second ", "2026-07-01T12:05:01Z"),
        ("1day2hours3mins4secs", "2026-07-02T12:03:04Z"),
        ("90m30m", "2026-07-01T12:00:00Z"),
        ("365d", "2027-07-01T10:00:00Z"),
        ("now", "2026-07-01T10:00:00Z"),
    ] {
        assert_eq!(at(text), time, "{text}");
    }
}

#[test]
fn times_keep_their_offset_and_bare_ones_use_the_local_zone() {
    for (text, time) in [
        ("2026-08-03T15:00:00Z", "2026-08-03T15:00:00Z"),
        ("2026-08-03t15:00:00z", "2026-08-03T15:00:00Z"),
        ("2026-08-03T15:00:00.25Z", "2026-08-03T15:00:00.25Z"),
        ("2026-08-03T15:00:00.123456789-08:30", "2026-08-03T23:30:00.123456789Z"),
        ("2026-08-03T15:00:00+05:45", "2026-08-03T09:15:00Z"),
        ("2026-08-03T15:00:00-00:00", "2026-08-03T15:00:00Z"),
        ("2026-08-03T15:00+02:00", "2026-08-03T13:00:00Z"),
        ("2026-08-03T15:00", "2026-08-03T13:00:00Z"),
        ("2026-08-03T15:00:30", "2026-08-03T13:00:30Z"),
        ("2026-08-03 15:00", "2026-08-03T13:00:00Z"),
        ("2026-08-03 15:00:30.5", "2026-08-03T13:00:30.5Z"),
        ("2026-12-03 15:00:30", "2026-12-03T14:00:30Z"),
        ("2028-02-29T00:00", "2028-02-28T23:00:00Z"),
    ] {
        assert_eq!(at(text), time, "{text}");
        assert_eq!(schedule(text, &now()).unwrap().note, None, "{text}");
    }
}

#[test]
fn skipped_local_hour_is_refused_and_repeated_hour_gets_a_note() {
    assert_eq!(
        why("2027-03-28T02:30"),
        "the local time zone has no 2027-03-28T02:30:00: clocks are put forward then; give an offset, \
         2027-03-28T02:30:00+01:00 or 2027-03-28T02:30:00+02:00"
    );
    let given = schedule("2026-10-25 02:30", &now()).unwrap();
    assert_eq!(given.time.to_string(), "2026-10-25T00:30:00Z");
    assert_eq!(
        given.note.as_deref(),
        Some(
            "2026-10-25T02:30:00 comes twice in the local time zone, as 2026-10-25T02:30:00+02:00 and \
             2026-10-25T02:30:00+01:00; the first one is meant"
        )
    );
    // Between the two, the one that is to come; of what was written, the earlier one.
    let between = "2026-10-25T00:45:00Z".parse::<Timestamp>().unwrap().to_zoned(berlin());
    let given = schedule("2026-10-25 02:30", &between).unwrap();
    assert_eq!(given.time.to_string(), "2026-10-25T01:30:00Z");
    assert!(given.note.is_some_and(|note| note.ends_with("; the second one is meant")));
    let given = past("since", "2026-10-25 02:30", &between).unwrap();
    assert_eq!(given.time.to_string(), "2026-10-25T00:30:00Z");
    // With an offset neither is a question.
    assert_eq!(at("2027-03-28T02:30+01:00"), "2027-03-28T01:30:00Z");
    assert_eq!(at("2026-10-25T02:30+01:00"), "2026-10-25T01:30:00Z");
    let nowhere = now().with_time_zone(TimeZone::unknown());
    let given = schedule("2026-10-25 02:30", &nowhere).unwrap();
    assert_eq!(given.time.to_string(), "2026-10-25T02:30:00Z");
    assert_eq!(given.note.as_deref(), Some("the local time zone is not known: the time is read as UTC"));
}

#[test]
fn past_schedule_time_is_accepted_with_a_note() {
    let given = schedule("2026-07-01T11:59:59", &now()).unwrap();
    assert_eq!(given.time.to_string(), "2026-07-01T09:59:59Z");
    assert_eq!(given.note.as_deref(), Some("2026-07-01T09:59:59Z is past: the job starts at once"));
    assert_eq!(schedule("now", &now()).unwrap().note, None);
    let nowhere = now().with_time_zone(TimeZone::unknown());
    let note = schedule("2026-07-01T09:00", &nowhere).unwrap().note.unwrap();
    assert!(note.starts_with("the local time zone is not known") && note.ends_with("the job starts at once"));
}

#[test]
fn everything_else_is_refused_with_a_reason() {
    let shape = "it is not of the form YYYY-MM-DDTHH:MM[:SS[.fraction]][Z or +HH:MM]";
    let range = "a delay is between 1 s and 365 days";
    for (text, reason) in [
        ("", "it is empty"),
        ("   ", "it is empty"),
        ("0s", range),
        ("0h0m", range),
        ("366d", range),
        ("365d1s", range),
        ("10", "the unit behind 10 is missing: s, m, h or d"),
        ("1h30", "the unit behind 30 is missing: s, m, h or d"),
        ("1 0s", "the unit behind 1 is missing: s, m, h or d"),
        ("1.5h", "write whole numbers: 1h30m, not 1.5h"),
        ("3 fortnights", "\"fortnights\" is no unit; they are s, min, h and d"),
        ("1H", "\"H\" is no unit; they are s, min, h and d"),
        ("1M", "\"M\" is no unit; they are s, min, h and d"),
        ("-5m", "\"-5m\" is neither a date nor a number with a unit"),
        ("++5m", "\"+5m\" is neither a date nor a number with a unit"),
        ("tomorrow", "\"tomorrow\" is neither a date nor a number with a unit"),
        ("1h & reboot", "\"& reboot\" is neither a date nor a number with a unit"),
        ("99999999999999999999s", "it is too long"),
        ("9999999999999999999d", "it is too long"),
        ("2026-08-03", "the time of day is missing: 2026-08-03T00:00"),
        (
            "2026-08-03T15:00:00[Europe/Berlin]",
            "names of time zones are not taken; give the offset, such as +02:00",
        ),
        ("2026-02-30T10:00", "there is no day 2026-02-30"),
        ("2026-13-01T10:00", "there is no day 2026-13-01"),
        ("2026-08-03T25:00", "there is no time of day 25:00"),
        ("2026-08-03T10:61:00Z", "there is no time of day 10:61:00"),
        ("2026-08-03T10", shape),
        ("2026-08-03T1000", shape),
        ("2026-08-03T10:00:00 CET", shape),
        ("2026-08-03T10:00:00,5Z", shape),
        ("2026-08-03T10:00:00.Z", shape),
        ("2026-08-03T10:00:00.1234567890Z", shape),
        ("2026-08-03T10:00:00+0200", shape),
        ("2026-08-03T10:00:00+24:00", shape),
        ("2026-08-03T10:00:00+02:60", shape),
        ("2026-08-03T10:00Zjunk", shape),
        ("2026-8-3T10:00", shape),
        ("2026-08-03x10:00", shape),
        ("2026-08-0é", shape),
    ] {
        assert_eq!(why(text), reason, "{text}");
    }
}

#[test]
fn relative_past_time_counts_back_from_now() {
    let since = |text: &str| past("since", text, &now()).unwrap().time.to_string();
    assert_eq!(since("10m"), "2026-07-01T09:50:00Z");
    assert_eq!(since("2h 30min"), "2026-07-01T07:30:00Z");
    assert_eq!(since("400d"), "2025-05-27T10:00:00Z");
    assert_eq!(since("0s"), "2026-07-01T10:00:00Z");
    assert_eq!(since("now"), "2026-07-01T10:00:00Z");
    assert_eq!(since("2026-07-01T11:00"), "2026-07-01T09:00:00Z");
    assert_eq!(since("2030-01-01T00:00:00Z"), "2030-01-01T00:00:00Z");
    let why = |text: &str| past("until", text, &now()).unwrap_err().to_string();
    assert_eq!(why("+10m"), "invalid value \"+10m\" for --until: without + it is that long ago");
    assert_eq!(why("9999999d"), "invalid value \"9999999d\" for --until: it is beyond the calendar");
    assert_eq!(
        why("1 week"),
        "invalid value \"1 week\" for --until: \"week\" is no unit; they are s, min, h and d"
    );
}

/// Seconds as a text of one of the spellings, and what they are.
fn spelled_duration() -> impl Strategy<Value = (String, u64)> {
    let part = (0u64..400, 0usize..UNITS.len(), any::<prop::sample::Index>(), "[ ]{0,2}", "[ ]{0,2}");
    prop::collection::vec(part, 1..5).prop_map(|parts| {
        let mut text = String::new();
        let mut seconds = 0;
        for (n, unit, name, before, behind) in parts {
            let (names, size) = UNITS[unit];
            text.push_str(&format!("{n}{before}{}{behind}", names[name.index(names.len())]));
            seconds += n * size;
        }
        (text, seconds)
    })
}

proptest! {
    #[test]
    fn a_delay_is_the_sum_of_its_parts((text, seconds) in spelled_duration()) {
        let given = schedule(&text, &now());
        if (1..=LONGEST_DELAY).contains(&seconds) {
            let waited = given.unwrap().time.duration_since(now().timestamp());
            prop_assert_eq!(waited, SignedDuration::from_secs(seconds as i64));
        } else {
            prop_assert!(given.is_err());
        }
        let ago = now().timestamp().duration_since(past("since", &text, &now()).unwrap().time);
        prop_assert_eq!(ago, SignedDuration::from_secs(seconds as i64));
    }

    #[test]
    fn a_time_written_with_any_offset_is_read_as_itself(nanos in 0i64..8_000_000_000_000_000_000, minutes in -1439i32..1440) {
        let time = Timestamp::from_nanosecond(nanos.into()).unwrap();
        let offset = Offset::from_seconds(minutes * 60).unwrap();
        let text = time.display_with_offset(offset).to_string();
        prop_assert_eq!(schedule(&text, &now()).unwrap().time, time, "{}", text);
        prop_assert_eq!(schedule(&time.to_string(), &now()).unwrap().time, time);
    }

    #[test]
    fn a_time_of_the_wall_clock_comes_back_as_the_same_wall_clock(seconds in 0i64..4_000_000_000) {
        let zoned = Timestamp::from_second(seconds).unwrap().to_zoned(berlin());
        let text = zoned.datetime().to_string();
        let given = past("since", &text, &now()).unwrap();
        prop_assert_eq!(given.time.to_zoned(berlin()).datetime(), zoned.datetime());
    }

    #[test]
    fn no_text_makes_the_time_parser_panic(text in "\\PC{0,40}") {
        let _ = (schedule(&text, &now()), past("since", &text, &now()));
    }

    #[test]
    fn almost_valid_time_does_not_make_the_time_parser_panic(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]{0,12}[-Zz+]?[0-9:é]{0,6}") {
        let _ = (schedule(&text, &now()), past("since", &text, &now()));
    }
}
