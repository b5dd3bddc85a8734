use std::io::Read as _;

use common::{
    chat::{Author, Body, EmoteSpans, Login, MessageId, Offset, Post, Roles, Stamp, Text, User},
    live::{Announcement, Channel, Phase, Stage},
    names::{BroadcastId, Epoch},
    telemetry::metrics::registry,
};

use super::*;

struct Rig {
    dir: tempfile::TempDir,
    directory: Arc<Directory>,
    metrics: ChatMetrics,
}

impl Rig {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            directory: Arc::new(Directory::default()),
            metrics: ChatMetrics::register(&registry("origin")),
        }
    }

    fn recorder(&self, chat_log_bytes: u64) -> Recorder {
        let config = RecordConfig {
            chat_log: Some(self.dir.path().join("log")),
            chat_log_bytes,
        };
        Recorder::open(&config, self.directory.clone(), &self.metrics).unwrap()
    }

    fn room(&self, recorder: &Recorder, name: &str) -> RoomRecord {
        recorder.of(&ChannelName::parse(name).unwrap()).unwrap()
    }

    fn goes_live(&self, name: &str, broadcast: u64) {
        self.directory.put(Channel {
            announcement: Announcement {
                channel: ChannelName::parse(name).unwrap(),
                broadcast: BroadcastId(broadcast),
                epoch: Epoch(broadcast),
                phase: Phase::Starting,
                grace_ms: 10_000,
                hops: Vec::new(),
                cost: 0,
            },
            stage: Stage::Starting,
        });
    }
}

fn said(epoch: u64, offset: u64, text: &str) -> Event {
    Event {
        stamp: Stamp {
            epoch: RoomEpoch(epoch),
            offset: Offset(offset),
            id: MessageId(u128::from(epoch) << 64 | u128::from(offset)),
            at: UnixMs(offset),
            program: UnixMs(offset),
        },
        body: Body::Post(Post {
            author: Author {
                user: User::named(Login::parse("ann").unwrap()),
                roles: Roles::default(),
            },
            text: Text::cut(text).unwrap(),
            action: false,
            reply: None,
            emotes: EmoteSpans::default(),
        }),
    }
}

fn say(room: &RoomRecord, now: u64, event: &Event) {
    room.append(UnixMs(now), &lines(std::slice::from_ref(event)))
        .unwrap();
}

fn names(room: &RoomRecord) -> Vec<String> {
    let files = files(&room.dir());
    let names = files.iter().map(|file| {
        file.path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned()
    });
    names.collect()
}

#[test]
fn each_broadcast_has_its_file_and_the_next_life_reads_them_all() {
    let rig = Rig::new();
    let recorder = rig.recorder(1 << 30);
    let room = rig.room(&recorder, "demo");
    let events: Vec<_> = (0..6).map(|n| said(1, n, "hello")).collect();
    say(&room, 1_000, &events[0]);
    rig.goes_live("demo", 77);
    say(&room, 2_000, &events[1]);
    say(&room, 3_000, &events[2]);
    rig.goes_live("demo", 78);
    say(&room, 4_000, &events[3]);
    assert_eq!(
        names(&room),
        ["0-1000.jsonl", "77-2000.jsonl", "78-4000.jsonl"]
    );
    // Another life, whose clock went back, and which does not go on in old files.
    let recorder = rig.recorder(1 << 30);
    let room = rig.room(&recorder, "demo");
    say(&room, 4_000, &events[4]);
    assert_eq!(names(&room).last().unwrap(), "78-4001.jsonl");
    assert_eq!(room.past(RoomEpoch(2)), (events[..5].to_vec(), true));
    // Nothing of its own epoch or later ones is the past.
    assert!(room.past(RoomEpoch(1)).0.is_empty());
    assert!(rig.room(&recorder, "other").past(RoomEpoch(2)).0.is_empty());
}

#[test]
fn torn_and_foreign_lines_are_passed_over() {
    let rig = Rig::new();
    let recorder = rig.recorder(1 << 30);
    let room = rig.room(&recorder, "demo");
    say(&room, 1_000, &said(1, 0, "one"));
    let file = files(&room.dir()).remove(0).path;
    let mut text = String::new();
    File::open(&file)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let (whole, torn) = (text.clone(), &text[..text.len() / 2]);
    fs::write(&file, format!("nonsense\n\u{fffd}\n{whole}{whole}{torn}")).unwrap();
    fs::write(room.dir().join("notes.txt"), "x").unwrap();
    assert_eq!(room.past(RoomEpoch(2)).0, [said(1, 0, "one")]);
}

#[test]
fn what_is_read_is_bounded() {
    let rig = Rig::new();
    let recorder = rig.recorder(1 << 30);
    let room = rig.room(&recorder, "demo");
    let most = RECENT as u64;
    let events: Vec<_> = (0..most + 100).map(|n| said(1, n, "hello")).collect();
    room.append(UnixMs(1), &lines(&events)).unwrap();
    let (past, all) = room.past(RoomEpoch(2));
    assert_eq!((&past[..], all), (&events[100..], false));
    // Fewer than there were for their length, whatever their number.
    let other = rig.room(&recorder, "other");
    let long = "\u{1f600}".repeat(500);
    let events: Vec<_> = (0..700).map(|n| said(1, n, &long)).collect();
    other.append(UnixMs(1), &lines(&events)).unwrap();
    let (past, all) = other.past(RoomEpoch(2));
    assert!(past.len() < 700 && !all, "{}", past.len());
    // Long lines: no more bytes than were allowed, and whole lines alone.
    let long = "x".repeat(500);
    let events: Vec<_> = (0..9_000).map(|n| said(2, n, &long)).collect();
    room.append(UnixMs(1), &lines(&events)).unwrap();
    let past = room.past(RoomEpoch(3)).0;
    assert_eq!(past.len(), RECENT);
    assert_eq!(past.last(), events.last());
}

#[test]
fn the_oldest_files_go_when_there_is_too_much() {
    let rig = Rig::new();
    let recorder = rig.recorder(1 << 20);
    let (old, new) = (rig.room(&recorder, "old"), rig.room(&recorder, "new"));
    let text = "x".repeat(400);
    say(&old, 1, &said(1, 0, &text));
    for n in 0..4_000 {
        say(&new, 2 + n, &said(1, n, &text));
    }
    assert!(!old.dir().exists());
    assert!(names(&new).len() > 1);
    let on_disk = bytes_on_disk(&new);
    assert!(on_disk <= 1 << 20, "{on_disk}");
    assert_eq!(rig.metrics.log_bytes.get(), i64::try_from(on_disk).unwrap());
    assert!(rig.metrics.log_dropped.get() > 1);
    // And when it is opened with less.
    assert_eq!(
        new.past(RoomEpoch(2)).0.last().unwrap().stamp.offset,
        Offset(3_999)
    );
}

/// The oldest of all files may be one that still grows.
#[test]
fn a_room_whose_file_went_begins_another() {
    let rig = Rig::new();
    let recorder = rig.recorder(1 << 20);
    let (old, new) = (rig.room(&recorder, "old"), rig.room(&recorder, "new"));
    say(&old, 1, &said(1, 0, "one"));
    let text = "x".repeat(400);
    for n in 0..4_000 {
        say(&new, 2 + n, &said(1, n, &text));
    }
    assert!(!old.dir().exists());
    say(&old, 9_000, &said(1, 1, "two"));
    say(&old, 9_001, &said(1, 2, "three"));
    assert_eq!(names(&old), ["0-9000.jsonl"]);
    let past = old.past(RoomEpoch(2)).0;
    assert_eq!(past, [said(1, 1, "two"), said(1, 2, "three")]);
    let on_disk = [&old, &new].map(bytes_on_disk);
    assert_eq!(
        rig.metrics.log_bytes.get(),
        i64::try_from(on_disk.iter().sum::<u64>()).unwrap()
    );
}

/// A stranger may talk in as many rooms as there are names.
#[test]
fn what_is_said_off_air_takes_no_recording_away() {
    let rig = Rig::new();
    let recorder = rig.recorder(1 << 20);
    let demo = rig.room(&recorder, "demo");
    rig.goes_live("demo", 77);
    say(&demo, 1, &said(1, 0, "one"));
    let text = "x".repeat(400);
    for n in 0..100 {
        let made_up = rig.room(&recorder, &format!("made_up_{n}"));
        let events: Vec<_> = (0..40).map(|offset| said(1, offset, &text)).collect();
        made_up.append(UnixMs(2 + n), &lines(&events)).unwrap();
    }
    assert_eq!(names(&demo), ["77-1.jsonl"]);
    assert!(!rig.room(&recorder, "made_up_0").dir().exists());
    let counted = || u64::try_from(rig.metrics.log_bytes.get()).unwrap();
    assert!(((1 << 19)..=1 << 20).contains(&counted()), "{}", counted());
    // Nor does a word each, which is a file each.
    for n in 0..MAX_FILES {
        let made_up = rig.room(&recorder, &format!("word_{n}"));
        made_up.append(UnixMs(200 + n as u64), "{}\n").unwrap();
    }
    assert!(!rig.room(&recorder, "word_0").dir().exists());
    let rooms = || fs::read_dir(rig.dir.path().join("log")).unwrap().count();
    assert_eq!(rooms(), MAX_FILES);
    assert_eq!(names(&demo), ["77-1.jsonl"]);
    // A recording goes for another one alone, and before all the rest is gone.
    let other = rig.room(&recorder, "other");
    rig.goes_live("other", 78);
    for n in 0..4_000 {
        say(&other, 20_000 + n, &said(1, n, &text));
    }
    assert!(!demo.dir().exists());
    let part = (1 << 20) / u64::from(OFF_AIR_PART);
    assert!(bytes_on_disk(&other) <= 3 * part && counted() <= 1 << 20);
    assert!(rooms() > MAX_FILES / 2);
}

#[test]
fn a_full_disk_makes_no_files_and_counts_what_it_took() {
    let rig = Rig::new();
    let recorder = rig.recorder(1 << 30);
    let room = rig.room(&recorder, "demo");
    let (one, two, three) = (said(1, 0, "one"), said(1, 1, "two"), said(1, 2, "three"));
    say(&room, 1, &one);
    let file = files(&room.dir()).remove(0).path;
    let aside = rig.dir.path().join("aside");
    fs::rename(&file, &aside).unwrap();
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    for n in 2..5 {
        let full = room.append(UnixMs(n), &lines(std::slice::from_ref(&two)));
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(names(&room), ["0-1.jsonl"]);
    fs::rename(&aside, &file).unwrap();
    say(&room, 5, &two);
    assert_eq!(names(&room), ["0-1.jsonl"]);
    assert_eq!(room.past(RoomEpoch(2)).0, [one.clone(), two.clone()]);
    let counted = |rig: &Rig| u64::try_from(rig.metrics.log_bytes.get()).unwrap();
    assert_eq!(counted(&rig), bytes_on_disk(&room));
    // Half a line was written before the disk was full.
    room.open.lock().as_mut().unwrap().is_torn = true;
    let mut torn = OpenOptions::new().append(true).open(&file).unwrap();
    torn.write_all(b"{\"type\":\"mess").unwrap();
    say(&room, 6, &three);
    assert_eq!(room.past(RoomEpoch(2)).0, [one, two, three]);
}

fn bytes_on_disk(room: &RoomRecord) -> u64 {
    files(&room.dir())
        .iter()
        .map(|file| fs::metadata(&file.path).unwrap().len())
        .sum()
}

#[test]
fn a_disk_that_takes_nothing_is_an_error_and_the_next_line_is_whole() {
    let rig = Rig::new();
    let recorder = rig.recorder(1 << 30);
    let room = rig.room(&recorder, "demo");
    // A file where the folder should be.
    fs::write(room.dir(), "x").unwrap();
    assert!(room.append(UnixMs(1), "{}\n").is_err());
    fs::remove_file(room.dir()).unwrap();
    say(&room, 2, &said(1, 0, "one"));
    assert_eq!(room.past(RoomEpoch(2)).0.len(), 1);
    assert!(Recorder::default().of(&room.room).is_none());
}
