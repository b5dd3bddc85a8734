//! One request: checked, routed, answered, counted.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use common::{
    api::{OPENAPI, Problem, problem},
    live::Crowd,
    names::ChannelName,
};
use hyper::{
    Request, StatusCode, Version,
    body::{Body as _, Incoming},
    header::{HOST, VARY},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    assets,
    body::Body,
    cache::Cache,
    channels::{self, Lists},
    chat, chatters,
    config::HttpConfig,
    connection::{Active, Connection, Limits},
    elsewhere, endless, ingests, manifest, media,
    metrics::{HttpMetrics, Rejected, RouteClass},
    negotiate, playlists,
    request::{Field, Fields, Head, Method, is_host},
    response::{self, Answer, BRIEF, JSON, NO_STORE},
    route::{self, Resource, Route},
    viewers::{self, ViewerKey, Viewers},
    websocket,
};
use crate::{
    chat::{Chat, asks_for_websocket},
    geo::Geo,
    upstream::Upstream,
    view::Viewing,
};

/// What all connections share.
pub(super) struct Server {
    pub(super) config: HttpConfig,
    pub(super) upstream: Arc<Upstream>,
    /// Where playlists and media need a token.
    pub(super) viewing: Option<Arc<Viewing>>,
    pub(super) chat: Option<Chat>,
    pub(super) geo: Option<Arc<Geo>>,
    pub(super) metrics: HttpMetrics,
    pub(super) cache: Cache,
    pub(super) viewers: Viewers,
    pub(super) limits: Limits,
    held: AtomicUsize,
    pub(super) streams: AtomicUsize,
    pub(super) lists: Lists,
}

/// A request as its handler sees it.
pub(super) struct Asked<'a> {
    pub(super) server: &'a Arc<Server>,
    pub(super) connection: &'a Connection,
    pub(super) fields: &'a Fields<'a>,
    pub(super) query: Option<&'a str>,
    /// What stands before the path, where viewing is signed.
    pub(super) token: Option<&'a str>,
    /// HEAD: the headers are wanted now, waiting or not.
    pub(super) head: bool,
    /// When it was asked. The clock is not read again for what is ready.
    pub(super) now: Instant,
}

/// Why a request that had to wait was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Impatience {
    TimedOut,
    TooMany(Rejected),
}

/// Fine enough for whoever scrapes, and soon enough for the table of viewers, which is
/// swept with it.
const COUNTED_EVERY: Duration = Duration::from_secs(2);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    pub(super) fn new(
        config: HttpConfig,
        upstream: Arc<Upstream>,
        viewing: Option<Arc<Viewing>>,
        chat: Option<Chat>,
        geo: Option<Arc<Geo>>,
        metrics: HttpMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            limits: Limits::new(&config),
            viewers: Viewers::new(
                config.max_counted_viewers,
                config.max_connections_per_address,
                metrics.uncounted_viewers.clone(),
            ),
            config,
            upstream,
            viewing,
            chat,
            geo,
            metrics,
            cache: Cache::default(),
            held: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            lists: Lists::default(),
        })
    }

    /// Who is there over all edges, as the room's home told this edge, which reads
    /// the rooms of what is watched here.
    pub(super) fn told(&self, channel: &ChannelName) -> Option<Crowd> {
        let counts = self.chat.as_ref()?.told(channel)?;
        Some(Crowd {
            viewers: counts.viewers,
            chatters: counts.chatters,
        })
    }

    /// Viewers of one channel here.
    pub(super) fn viewers_of(&self, channel: &ChannelName) -> u64 {
        self.viewers.count_of(channel)
    }

    /// Viewers by channel, and their sum into the metrics.
    pub(super) fn count_viewers(&self) -> HashMap<ChannelName, u64> {
        let counts = self.viewers.count();
        let all: u64 = counts.values().sum();
        let all = i64::try_from(all).unwrap_or(i64::MAX);
        self.metrics.counted_viewers.set(all);
        counts
    }

    /// Keeps the metrics' count of viewers current, and their table swept, whoever asks
    /// for the list.
    pub(super) async fn count_regularly(&self) {
        loop {
            sleep(COUNTED_EVERY).await;
            let counts = self.count_viewers();
            if let Some(chat) = &self.chat {
                chat.watched(&counts);
            }
        }
    }
}

/// Answers one request that hyper read, on HTTP/1. Never fails: whatever a stranger
/// sends has a status.
pub(super) async fn serve(
    server: Arc<Server>,
    connection: Arc<Connection>,
    mut request: Request<Incoming>,
) -> Answer {
    let active = connection.begin(false, &server.config);
    if let Some(chat) = &server.chat
        && asks_for_websocket(&request)
    {
        let answer = websocket::answer(chat, &connection, &mut request);
        server.metrics.answered(RouteClass::Other, answer.status());
        return answer;
    }
    let head = Head::new(request.method(), request.uri(), request.headers());
    // On the heap while it lasts: hyper keeps the room for this future for as long
    // as the connection lives, and ten thousand of them idle.
    Box::pin(async {
        match unfit(&request) {
            // What follows may be read as a request, so the connection ends.
            Some(why) => response::closing(unserved(&server, active, &head, why)),
            None => answered(&server, &connection, active, &head, Instant::now()).await,
        }
    })
    .await
}

/// What is wrong with a request before its resource matters.
fn unfit(request: &Request<Incoming>) -> Option<Rejected> {
    if !request.body().is_end_stream() {
        return Some(Rejected::RequestBody);
    }
    // RFC 9112, 3.2.
    let mut hosts = request.headers().get_all(HOST).iter();
    let one = hosts.next().is_some_and(|host| is_host(host.as_bytes())) && hosts.next().is_none();
    (request.version() == Version::HTTP_11 && !one).then_some(Rejected::Host)
}

/// 400: the answer to a request that no resource would serve.
pub(super) fn unserved(server: &Server, active: Active, head: &Head<'_>, why: Rejected) -> Answer {
    server.metrics.rejected(why);
    let refused = response::error(StatusCode::BAD_REQUEST, NO_STORE);
    counted(server, active, head, (RouteClass::Other, refused))
}

/// Answers a request whose head has been read, and which has no body.
pub(super) async fn answered(
    server: &Arc<Server>,
    connection: &Connection,
    active: Active,
    head: &Head<'_>,
    now: Instant,
) -> Answer {
    let answer = respond(server, connection, head, now).await;
    counted(server, active, head, answer)
}

/// The answer to what is no request, after which the connection ends.
pub(super) fn refused(
    server: &Server,
    active: Active,
    why: Rejected,
    status: StatusCode,
) -> Answer {
    server.metrics.rejected(why);
    server.metrics.answered(RouteClass::Other, status);
    let mut answer = response::closing(response::error(status, NO_STORE));
    answer.body_mut().hold(active);
    answer
}

/// The answer as it may be sent: without a body for HEAD, within the budgets of
/// bytes, and in the metrics.
fn counted(
    server: &Server,
    mut active: Active,
    head: &Head<'_>,
    (class, mut answer): (RouteClass, Answer),
) -> Answer {
    let metrics = &server.metrics;
    if head.method == Method::Head {
        answer = response::without_body(answer);
    }
    if let Some(bytes) = answer.body().len() {
        if let Err(why) = active.queue(bytes, &server.config, metrics) {
            active.unqueue();
            metrics.rejected(why);
            answer = Impatience::TooMany(why).answer(NO_STORE);
        } else {
            active.must_send(bytes, &server.config);
        }
    }
    metrics.answered(class, answer.status());
    answer.body_mut().hold(active);
    answer
}

async fn respond(
    server: &Arc<Server>,
    connection: &Connection,
    head: &Head<'_>,
    now: Instant,
) -> (RouteClass, Answer) {
    let refuse = |why: Rejected, status: StatusCode| {
        server.metrics.rejected(why);
        (RouteClass::Other, response::error(status, NO_STORE))
    };
    if head.target_bytes() > server.config.max_uri_bytes {
        return refuse(Rejected::UriLength, StatusCode::URI_TOO_LONG);
    }
    // Whoever reads a head bounds its buffer; this is the limit.
    if head.header_bytes > server.config.max_header_bytes as usize {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return refuse(Rejected::HeaderLength, status);
    }
    match head.method {
        Method::Get | Method::Head => {}
        Method::Options => return (RouteClass::Other, response::preflight()),
        Method::Other => {
            server.metrics.rejected(Rejected::Method);
            return (RouteClass::Other, response::method_not_allowed());
        }
    }
    let (token, path) = match server.viewing {
        Some(_) => route::signed(head.path),
        None => (None, head.path),
    };
    let asked = Asked {
        server,
        connection,
        fields: &head.fields,
        query: head.query,
        token,
        head: head.method == Method::Head,
        now,
    };
    answer(&asked, path).await
}

async fn answer(asked: &Asked<'_>, path: &str) -> (RouteClass, Answer) {
    let not_found = || response::error(StatusCode::NOT_FOUND, BRIEF);
    // What is asked for less often is boxed: media playlists and media shall not
    // have to carry its room about.
    match Route::parse(path) {
        Route::Multivariant { channel } => {
            let answer = match ChannelName::parse(channel) {
                Ok(channel) => Box::pin(playlists::multivariant(asked, &channel)).await,
                Err(_) => not_found(),
            };
            (RouteClass::Multivariant, answer)
        }
        Route::Media { channel, track } => {
            let answer = match ChannelName::parse(channel) {
                Ok(channel) => playlists::media(asked, &channel, track).await,
                Err(_) => not_found(),
            };
            (RouteClass::Media, answer)
        }
        Route::Resource {
            channel,
            epoch,
            track,
            resource,
        } => {
            let class = match resource {
                Resource::Part { .. } => RouteClass::Part,
                Resource::Segment { .. } => RouteClass::Segment,
                Resource::Init { .. } => RouteClass::Init,
            };
            let answer = match ChannelName::parse(channel) {
                Ok(channel) => media::resource(asked, &channel, epoch, track, resource).await,
                Err(_) => not_found(),
            };
            (class, answer)
        }
        Route::Manifest { channel } => {
            let answer = match ChannelName::parse(channel) {
                Ok(channel) => Box::pin(manifest::manifest(asked, &channel)).await,
                Err(_) => not_found(),
            };
            (RouteClass::Manifest, answer)
        }
        Route::Stream { channel, track } => {
            let answer = match ChannelName::parse(channel) {
                Ok(channel) => Box::pin(endless::stream(asked, &channel, track)).await,
                Err(_) => not_found(),
            };
            (RouteClass::Stream, answer)
        }
        Route::Channels => (RouteClass::Api, Box::pin(channels::list(asked)).await),
        Route::Channel { channel } => {
            let answer = match ChannelName::parse(channel) {
                Ok(channel) => Box::pin(channels::channel(asked, &channel)).await,
                Err(error) => bad_request(&error),
            };
            (RouteClass::Api, answer)
        }
        Route::Chatters { channel } => {
            let answer = match ChannelName::parse(channel) {
                Ok(channel) => chatters::answer(asked, &channel).await,
                Err(error) => bad_request(&error),
            };
            (RouteClass::Api, answer)
        }
        Route::OpenApi => {
            let document = Bytes::from_static(OPENAPI.as_bytes());
            (RouteClass::Api, api_answer(document))
        }
        Route::Time => (RouteClass::Api, manifest::time()),
        Route::Ingests => (RouteClass::Api, ingests::answer(asked)),
        Route::Alternatives => {
            let list = elsewhere::json(&asked.server.config.alternatives);
            (RouteClass::Api, api_answer(list))
        }
        Route::Chat => (RouteClass::Api, chat::about(asked)),
        Route::ChatToken => (RouteClass::Api, chat::token(asked)),
        Route::Other { path } => match assets::answer(asked, path) {
            Some(answer) => (RouteClass::Page, answer),
            None => (RouteClass::Other, not_found()),
        },
    }
}

fn bad_request(why: &impl fmt::Display) -> Answer {
    response::problem(&Problem::bad(why.to_string()), BRIEF)
}

pub(super) fn api_answer(text: Bytes) -> Answer {
    let mut answer = response::answer(StatusCode::OK, Body::whole(text));
    let headers = answer.headers_mut();
    headers.insert(hyper::header::CONTENT_TYPE, JSON);
    headers.insert(hyper::header::CACHE_CONTROL, BRIEF);
    answer
}

impl Asked<'_> {
    /// How long ago that was when this was asked.
    pub(super) fn age(&self, since: std::time::Instant) -> Duration {
        self.now.into_std().saturating_duration_since(since)
    }

    pub(super) fn gzip(&self) -> bool {
        negotiate::gzip(self.fields)
    }

    /// 403 unless playlists and media of the channel may be read with `token`. Where
    /// viewing is not signed, they always may.
    pub(super) fn forbidden(&self, channel: &ChannelName, token: Option<&str>) -> Option<Answer> {
        let status = self.admitted(channel, token).err()?;
        Some(response::error(status, NO_STORE))
    }

    /// The same for what goes on: when it has to end, where it has to. From here
    /// on the clock is one that nobody sets.
    pub(super) fn admitted(
        &self,
        channel: &ChannelName,
        token: Option<&str>,
    ) -> Result<Option<Instant>, StatusCode> {
        let Some(viewing) = &self.server.viewing else {
            return Ok(None);
        };
        let connection = self.connection;
        let admitted = viewing.admit(&connection.shown, token, channel, connection.peer);
        match admitted {
            Ok(left) => Ok(self.now.checked_add(left)),
            Err(_) => Err(StatusCode::FORBIDDEN),
        }
    }

    /// Counts who asks as a viewer of the channel.
    pub(super) fn counts(&self, channel: &ChannelName, page: Option<&str>) {
        let page_bytes = page.unwrap_or_default().as_bytes();
        let sum = viewers::sum([channel.as_str().as_bytes(), self.agent(), page_bytes]);
        if self.connection.counts_anew(sum, self.now) {
            self.viewer(channel, page);
        }
    }

    /// The same, for who stays without asking again.
    pub(super) fn viewer(&self, channel: &ChannelName, page: Option<&str>) -> ViewerKey {
        let peer: IpAddr = self.connection.peer;
        self.server.viewers.saw(channel, peer, self.agent(), page)
    }

    fn agent(&self) -> &[u8] {
        self.fields.first(Field::UserAgent).unwrap_or_default()
    }

    /// What `wanted` comes to within `limit`. Only a request that really waits
    /// takes a place among the held ones.
    pub(super) async fn patiently<T>(
        &self,
        limit: Duration,
        wanted: impl Future<Output = T>,
    ) -> Result<T, Impatience> {
        let mut wanted = std::pin::pin!(wanted);
        let now = std::future::poll_fn(|cx| Poll::Ready(wanted.as_mut().poll(cx))).await;
        if let Poll::Ready(out) = now {
            return Ok(out);
        }
        let _held = self.hold().map_err(Impatience::TooMany)?;
        timeout(limit, wanted)
            .await
            .map_err(|_| Impatience::TimedOut)
    }

    fn hold(&self) -> Result<Held<'_>, Rejected> {
        let (server, connection) = (self.server, self.connection);
        let config = &server.config;
        let refused = |why| {
            server.metrics.rejected(why);
            Err(why)
        };
        let here = take(&connection.held, config.max_held_per_connection);
        let Some(here) = here else {
            return refused(Rejected::HeldByConnection);
        };
        let Some(all) = take(&server.held, config.max_held) else {
            return refused(Rejected::HeldInAll);
        };
        server.metrics.held.inc();
        Ok(Held {
            metrics: &server.metrics,
            _here: here,
            _all: all,
        })
    }
}

/// A place among the held requests.
struct Held<'a> {
    metrics: &'a HttpMetrics,
    _here: Taken<'a>,
    _all: Taken<'a>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.metrics.held.dec();
    }
}

struct Taken<'a>(&'a AtomicUsize);

fn take(count: &AtomicUsize, most: usize) -> Option<Taken<'_>> {
    if count.fetch_add(1, Relaxed) < most {
        return Some(Taken(count));
    }
    count.fetch_sub(1, Relaxed);
    None
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Impatience {
    /// 503 or 429. What this edge's load is the cause of is not to be stored.
    pub(super) fn answer(self, cache: hyper::header::HeaderValue) -> Answer {
        match self {
            Self::TimedOut => response::error(StatusCode::SERVICE_UNAVAILABLE, cache),
            Self::TooMany(Rejected::HeldByConnection | Rejected::QueuedByConnection) => {
                response::error(StatusCode::TOO_MANY_REQUESTS, NO_STORE)
            }
            Self::TooMany(_) => response::error(StatusCode::SERVICE_UNAVAILABLE, NO_STORE),
        }
    }

    /// The same in the API's form.
    pub(super) fn problem(self) -> Answer {
        let (status, code, text) = match self {
            Self::TooMany(Rejected::HeldByConnection | Rejected::QueuedByConnection) => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "this connection asks for too much at once",
            ),
            Self::TimedOut | Self::TooMany(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "not to be had just now",
            ),
        };
        response::problem(&problem(status, code, text), NO_STORE)
    }
}

/// Marks an answer as one that depends on Accept-Encoding.
pub(super) fn varies(answer: &mut Answer) {
    let value = hyper::header::HeaderValue::from_static("Accept-Encoding");
    answer.headers_mut().insert(VARY, value);
}
