//! This origin as a place to publish to: what its flags say of it, and the task
//! that keeps what edges are told of its load.
//!
//! In: the flags, the directory, the drain. Out: one entry of [`Ingests`], written
//! by this task alone, at most once a second but for the drain. Nobody is refused
//! here: `--ingest-capacity` is what the directory sends, not what RTMP takes.

use std::{sync::Arc, time::Duration};

use clap::Args;
use common::{
    ingest::{Ingest, IngestState, Ingests, Place, city, region, rtmp_url, rtmps_url},
    live::{Directory, Phase},
    names::NodeId,
    shutdown::Shutdown,
};
use tokio::time::sleep;

/// Between two words on the load: hundreds of publishers that come or go at once
/// are one change for every node behind this one.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Flags of the directory of places to publish to (`/ingests`).
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Ingest directory")]
pub struct IngestConfig {
    /// Where publishers reach this origin: it is listed on /ingests and /go-live of all edges behind it
    #[arg(
        long,
        env = "MILLRACE_PUBLIC_RTMP",
        value_name = "rtmp://HOST[:PORT]/live",
        requires = "region",
        value_parser = rtmp_url
    )]
    pub public_rtmp: Option<String>,

    /// The same over TLS; see --rtmps-listen
    #[arg(
        long,
        env = "MILLRACE_PUBLIC_RTMPS",
        value_name = "rtmps://HOST[:PORT]/live",
        requires = "public_rtmp",
        value_parser = rtmps_url
    )]
    pub public_rtmps: Option<String>,

    /// Region of this origin, for example eu-ams; its first word (eu, us, ap ...) is spelled out to streamers
    #[arg(
        long,
        env = "MILLRACE_REGION",
        value_name = "NAME",
        requires = "public_rtmp",
        value_parser = region
    )]
    pub region: Option<String>,

    /// City of this origin, as streamers read it, for example Amsterdam
    #[arg(
        long,
        env = "MILLRACE_CITY",
        value_name = "NAME",
        requires = "public_rtmp",
        value_parser = city
    )]
    pub city: Option<String>,

    /// Where this origin is, in degrees, for example 52.37,4.90; without it nobody knows how far it is
    #[arg(
        long,
        env = "MILLRACE_LOCATION",
        value_name = "LATITUDE,LONGITUDE",
        requires = "public_rtmp",
        allow_hyphen_values = true,
        value_parser = Place::parse
    )]
    pub location: Option<Place>,

    /// Publishers from which on the directory calls this origin full and names others first; they are still taken, up to --rtmp-max-connections
    #[arg(
        long,
        env = "MILLRACE_INGEST_CAPACITY",
        value_name = "N",
        default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub ingest_capacity: u32,
}

impl IngestConfig {
    /// What edges are told while nobody publishes; `None` where streamers are not
    /// sent here.
    #[must_use]
    pub fn ingest(&self, node: NodeId) -> Option<Ingest> {
        let (rtmp, region) = self.public_rtmp.as_ref().zip(self.region.as_ref())?;
        Some(Ingest {
            hops: vec![node],
            region: region.clone(),
            city: self.city.clone().unwrap_or_default(),
            place: self.location,
            rtmp: rtmp.clone(),
            rtmps: self.public_rtmps.clone(),
            publishers: 0,
            capacity: self.ingest_capacity.max(1),
            state: IngestState::Available,
        })
    }
}

/// Keeps `own` in the table as this origin stands, for as long as it runs.
pub async fn tell(
    mut own: Ingest,
    ingests: Arc<Ingests>,
    directory: Arc<Directory>,
    shutdown: Shutdown,
) {
    let mut changes = directory.changes();
    let mut draining = false;
    loop {
        changes.mark_unchanged();
        own.publishers = publishers(&directory);
        own.state = state(&own, draining);
        ingests.set(vec![own.clone()]);
        tokio::select! {
            () = shutdown.draining(), if !draining => {
                draining = true;
                continue;
            }
            changed = changes.changed() => if changed.is_err() {
                return;
            },
        }
        tokio::select! {
            () = shutdown.draining(), if !draining => draining = true,
            () = sleep(TOLD_EVERY) => {}
        }
    }
}

/// Who is on air, its plan made or not.
fn publishers(directory: &Directory) -> u32 {
    let all = directory.snapshot();
    let on_air = all
        .iter()
        .filter(|channel| matches!(channel.announcement.phase, Phase::Starting | Phase::Live));
    u32::try_from(on_air.count()).unwrap_or(u32::MAX)
}

const fn state(own: &Ingest, draining: bool) -> IngestState {
    if draining {
        IngestState::Draining
    } else if own.publishers >= own.capacity {
        IngestState::Full
    } else {
        IngestState::Available
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use common::{
        live::{Announcement, Channel, Stage},
        names::{BroadcastId, ChannelName, Epoch},
    };
    use tokio::time::{Instant, advance};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        ingest: IngestConfig,
    }

    fn parse(flags: &[&str]) -> Result<IngestConfig, String> {
        let arguments = [&["origin"], flags].concat();
        let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
        Ok(cli.ingest)
    }

    fn node() -> NodeId {
        NodeId::parse("o-1").unwrap()
    }

    const AMS: [&str; 4] = [
        "--region",
        "eu-ams",
        "--public-rtmp",
        "rtmp://ams.example.net/live",
    ];

    #[test]
    fn an_origin_is_listed_where_it_says_where_it_is_reached() {
        assert_eq!(parse(&[]).unwrap().ingest(node()), None);
        let plain = parse(&AMS).unwrap().ingest(node()).unwrap();
        assert!(plain.is_sound() && plain.place.is_none() && plain.city.is_empty());
        let more = [
            "--city",
            "Amsterdam",
            "--location",
            "52.37,4.90",
            "--public-rtmps",
            "rtmps://ams.example.net/live",
            "--ingest-capacity",
            "7",
        ];
        let full = parse(&[&AMS[..], &more].concat()).unwrap();
        let full = full.ingest(node()).unwrap();
        assert!(full.is_sound());
        assert_eq!((full.place, full.capacity), (Place::new(52.37, 4.9), 7));
        let south = parse(&[&AMS[..], &["--location", "-33.87,151.21"]].concat()).unwrap();
        assert_eq!(south.location, Place::new(-33.87, 151.21));
    }

    #[test]
    fn a_wrong_flag_names_itself_and_a_valid_example() {
        for (flag, value, example) in [
            ("--region", "EU", "for example eu-ams"),
            ("--city", "<b>", "for example Amsterdam"),
            ("--location", "52.37", "for example 52.37,4.90"),
            ("--location", "95,0", "for example 52.37,4.90"),
            ("--public-rtmp", "rtmp://a", "for example rtmp://"),
            ("--public-rtmps", "rtmp://a/live", "for example rtmps://"),
            ("--ingest-capacity", "0", "1..=100000"),
        ] {
            let error = parse(&[flag, value]).unwrap_err();
            assert!(error.contains(flag) && error.contains(example), "{error}");
        }
        // Where it is, and not how to get there.
        for (flag, value) in [
            ("--region", "eu-ams"),
            ("--location", "1,2"),
            ("--city", "Ulm"),
        ] {
            let error = parse(&[flag, value]).unwrap_err();
            assert!(error.contains("--public-rtmp"), "{error}");
        }
        let error = parse(&["--public-rtmp", "rtmp://a/live"]).unwrap_err();
        assert!(error.contains("--region"), "{error}");
    }

    fn publish(directory: &Directory, name: &str, phase: Phase) {
        directory.put(Channel {
            announcement: Announcement {
                channel: ChannelName::parse(name).unwrap(),
                broadcast: BroadcastId(1),
                epoch: Epoch(1),
                phase,
                hops: vec![node()],
                cost: 0,
                grace_ms: 0,
            },
            stage: Stage::Starting,
        });
    }

    struct Rig {
        directory: Arc<Directory>,
        ingests: Arc<Ingests>,
        shutdown: Shutdown,
    }

    fn told(capacity: &str) -> Rig {
        let config = parse(&[&AMS[..], &["--ingest-capacity", capacity]].concat()).unwrap();
        let rig = Rig {
            directory: Arc::new(Directory::default()),
            ingests: Arc::default(),
            shutdown: Shutdown::new(),
        };
        tokio::spawn(tell(
            config.ingest(node()).unwrap(),
            rig.ingests.clone(),
            rig.directory.clone(),
            rig.shutdown.clone(),
        ));
        rig
    }

    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    impl Rig {
        async fn now(&self) -> (u32, IngestState) {
            settle().await;
            let all = self.ingests.all();
            (all[0].publishers, all[0].state)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_load_is_told_at_most_once_a_second() {
        let rig = told("2");
        assert_eq!(rig.now().await, (0, IngestState::Available));
        publish(&rig.directory, "a", Phase::Starting);
        settle().await;
        publish(&rig.directory, "b", Phase::Live);
        publish(&rig.directory, "c", Phase::Lost);
        publish(&rig.directory, "d", Phase::Ended);
        assert_eq!(rig.now().await.0, 0, "within the second");
        let mut changes = rig.ingests.changes();
        let began = Instant::now();
        changes.changed().await.unwrap();
        assert_eq!(rig.now().await, (2, IngestState::Full));
        assert!(began.elapsed() >= TOLD_EVERY);
        publish(&rig.directory, "b", Phase::Lost);
        settle().await;
        advance(TOLD_EVERY).await;
        assert_eq!(rig.now().await, (1, IngestState::Available));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_is_told_at_once() {
        let rig = told("1");
        assert_eq!(rig.now().await, (0, IngestState::Available));
        publish(&rig.directory, "a", Phase::Live);
        settle().await;
        rig.shutdown.drain();
        assert_eq!(rig.now().await, (1, IngestState::Draining));
    }
}
