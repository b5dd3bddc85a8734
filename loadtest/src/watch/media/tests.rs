use std::collections::HashMap;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    boxes::tests::{chunk, video_init},
    playout::{Outcome as Played, Playout},
    stamp::{self, Stamp},
};

type Files = Arc<HashMap<String, Vec<u8>>>;

/// Ticks of a second, as the test's init segment counts them.
const SECOND: u32 = 120_000;

/// A part of one stamped frame, a second long.
fn part(number: u64, at_s: u64) -> Vec<u8> {
    let stamp = Stamp {
        unix_us: 0,
        counter: number,
    };
    let sample = stamp::into_sample(&[0, 0, 0, 1, 0x65], 4, stamp).unwrap();
    chunk(1, at_s * u64::from(SECOND), SECOND, true, &sample)
}

/// Answers what it has; 500 to everything else.
async fn serve(files: Files) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, files.clone()));
        }
    });
    Url::parse(&format!("http://{address}/index.m3u8")).unwrap()
}

async fn answer(stream: TcpStream, files: Files) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut path = None;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        if line == "\r\n" {
            let file = path.take().and_then(|path: String| files.get(&path));
            let (status, body) = match file {
                Some(file) => ("200 OK", &file[..]),
                None => ("500 Internal Server Error", &[][..]),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(&[head.as_bytes(), body].concat()).await?;
        } else if let Some(get) = line.strip_prefix("GET /") {
            path = get.split(' ').next().map(str::to_owned);
        }
        line.clear();
    }
    Ok(())
}

/// What a viewer saw of a broadcast that is over, three seconds behind its end, one
/// of whose parts can't be had: `list` with parts 0 to 4, each at its second.
async fn watched(list: &str, at_s: [u64; 5], missing: u64) -> (Track, Played) {
    let list = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXT-X-PART-INF:PART-TARGET=1\n\
         #EXT-X-SERVER-CONTROL:PART-HOLD-BACK=3\n#EXT-X-MAP:URI=\"init\"\n{list}#EXT-X-ENDLIST\n"
    );
    let mut files = HashMap::from([
        ("index.m3u8".to_owned(), list.into_bytes()),
        ("init".to_owned(), video_init()),
    ]);
    for (number, at_s) in (0..).zip(at_s).filter(|(number, _)| *number != missing) {
        files.insert(number.to_string(), part(number, at_s));
    }
    let (events, mut arrivals) = mpsc::channel(64);
    let ended = run(Job {
        index: 0,
        url: serve(Arc::new(files)).await,
        net: Arc::new(Net::new(None, false)),
        known: Arc::new(Known::default()),
        mode: Mode::Parts,
        digits: 2,
        deadline: Instant::now() + MEDIA_TIMEOUT,
        events,
        untold: None,
    });
    let ended = ended.await;
    assert!(ended.ended);
    let mut model = Playout::new(1, 3_000_000, 1_000_000);
    while let Ok(event) = arrivals.try_recv() {
        if let Event::Media(media) = event {
            for arrival in media {
                // All at once: only what is missing can stop it.
                model.arrive(Arrival {
                    at_us: 0,
                    ..arrival
                });
            }
        }
    }
    model.end();
    (ended.track, model.finish(0))
}

fn listed(parts: std::ops::Range<u64>) -> String {
    let seconds = parts.end - parts.start;
    let parts = parts.map(|part| format!("#EXT-X-PART:DURATION=1,URI=\"{part}\"\n"));
    parts.collect::<String>() + &format!("#EXTINF:{seconds},\nwhole\n")
}

#[tokio::test]
async fn a_part_left_out_is_frames_missing_and_a_stall() {
    let (track, played) = watched(&listed(0..5), [0, 1, 2, 3, 4], 3).await;
    let counts = &track.counts;
    assert_eq!(counts.errors["media 500"], u64::from(TRIES));
    assert_eq!((counts.parts, counts.frame_gaps), (4, 1));
    assert_eq!(counts.tfdt_breaks, 0);
    assert_eq!((played.stalls, played.stalled_us), (1, 1_000_000));
}

#[tokio::test]
async fn a_gap_part_is_a_stall() {
    let list = listed(0..5).replace("URI=\"3\"", "URI=\"3\",GAP=YES");
    let (track, played) = watched(&list, [0, 1, 2, 3, 4], 3).await;
    assert_eq!(
        (track.counts.gap_parts, track.counts.errors_total()),
        (1, 0)
    );
    assert_eq!((played.stalls, played.stalled_us), (1, 1_000_000));
}

#[tokio::test]
async fn media_time_that_starts_anew_with_a_part_left_out_does_so_with_the_next() {
    let list = listed(0..3) + "#EXT-X-DISCONTINUITY\n" + &listed(3..5);
    let (track, played) = watched(&list, [0, 1, 2, 7_000, 7_001], 3).await;
    let counts = &track.counts;
    assert_eq!((counts.parts, counts.discontinuities), (4, 1));
    assert_eq!((counts.tfdt_breaks, played.stalls), (0, 0));
}

#[tokio::test]
async fn what_does_not_fit_is_told_with_the_next() {
    let (events, mut arrivals) = mpsc::channel(1);
    let mut job = Job {
        index: 0,
        url: Url::parse("http://127.0.0.1:1/").unwrap(),
        net: Arc::new(Net::new(None, false)),
        known: Arc::new(Known::default()),
        mode: Mode::Parts,
        digits: 2,
        deadline: Instant::now(),
        events,
        untold: None,
    };
    let arrival = |start_us| Arrival {
        track: 0,
        at_us: start_us,
        start_us,
        end_us: start_us + 1,
        discontinuity: false,
    };
    for start_us in 0..3 {
        job.tell(vec![arrival(start_us)]);
    }
    arrivals.try_recv().unwrap();
    job.tell(vec![arrival(3)]);
    let Ok(Event::Media(told)) = arrivals.try_recv() else {
        panic!("nothing was told");
    };
    let all = Arrival {
        start_us: 1,
        ..arrival(3)
    };
    assert_eq!(told, [all]);
}
