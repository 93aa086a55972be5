//! The listener for those who run the server: `/metrics` for Prometheus, `/usage`, and `/`.
//!
//! It is apart from the one for clients and on loopback by default, because ids of apps and loads
//! are nobody's business (peers 13). Connections, their time and what they may send are bounded: one
//! who reads slowly costs the others nothing.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::TEXT_FORMAT;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing_appender::non_blocking::ErrorCounter;

use crate::app::AppTable;
use crate::net::mesh::MeshSender;
use crate::shard::message::ShardMessage;

use super::exposition::{Exposition, Facts};
use super::process::{Memory, Process};
use super::reload::ReloadCounters;
use super::sampling::sample;
use super::webhook::WebhookCounters;

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 16;
/// From the connection to the end of the request's head.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// From the connection to the end of the answer; each connection has one.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// How long to wait where the process has no descriptor left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What the listener begins with.
pub struct Plan {
    pub listener: StdListener,
    pub mesh: MeshSender<ShardMessage>,
    pub apps: watch::Receiver<Arc<AppTable>>,
    pub webhooks: Arc<WebhookCounters>,
    /// What the log's writer had no room for.
    pub log_lines_dropped: ErrorCounter,
    /// Of names of metrics.
    pub prefix: String,
    /// Apps with series of their own.
    pub apps_max: usize,
    /// The port for clients: a label that peers have.
    pub port: u16,
}

/// Opens the listener.
///
/// # Errors
/// The address is taken or not to be had.
pub fn listen(address: SocketAddr) -> io::Result<(StdListener, SocketAddr)> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// What all requests share.
struct Admin {
    plan: Plan,
    reloads: Rc<ReloadCounters>,
    started_secs: f64,
}

/// Answers until the process ends.
pub(super) async fn run(plan: Plan, reloads: Rc<ReloadCounters>) {
    let listener = match plan.listener.try_clone().and_then(TcpListener::from_std) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "no metrics"),
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let admin = Rc::new(Admin {
        plan,
        reloads,
        started_secs: since.map_or(0.0, |since| since.as_secs_f64()),
    });
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = Rc::clone(&admin);
                tokio::task::spawn_local(async move {
                    admin.serve(stream).await;
                    drop(permit);
                });
            }
            // Mostly EMFILE: the listener stays readable, and its turn comes.
            Err(_) => sleep(EXHAUSTED_PAUSE).await,
        }
    }
}

impl Admin {
    async fn serve(self: Rc<Self>, stream: TcpStream) {
        let answer = service_fn(|request| {
            let admin = Rc::clone(&self);
            async move { Ok::<_, Infallible>(admin.answer(&request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), answer);
        // Who sends nonsense or goes away is no concern of ours.
        let _ = timeout(CONNECTION_MAX, connection).await;
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/" | "/metrics" | "/usage") {
            return text(StatusCode::NOT_FOUND, "NOT FOUND");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "METHOD NOT ALLOWED");
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        match path {
            "/metrics" => self.metrics().await,
            "/usage" => usage(),
            _ => text(StatusCode::OK, "OK"),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let plan = &self.plan;
        let samples = sample(&plan.mesh).await;
        let apps = plan.apps.borrow().clone();
        let facts = Facts {
            samples: &samples,
            apps: &apps,
            webhooks: &plan.webhooks,
            process: Process::now(),
            started_secs: self.started_secs,
            reloads_done: self.reloads.done.get(),
            reloads_refused: self.reloads.refused.get(),
            log_lines_dropped: plan.log_lines_dropped.dropped_lines() as u64,
        };
        let exposition = Exposition {
            prefix: &plan.prefix,
            apps_max: plan.apps_max,
            port: plan.port,
        };
        match exposition.text(&facts) {
            Ok(body) => with_type(TEXT_FORMAT, body),
            Err(error) => {
                tracing::error!(%error, "metrics could not be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "ERROR")
            }
        }
    }
}

/// What peers call usage: memory, in bytes (peers 13).
fn usage() -> Response<Full<Bytes>> {
    let Some(memory) = Memory::now() else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "ERROR");
    };
    let body = serde_json::json!({"memory": {
        "free": memory.free_bytes,
        "used": memory.used_bytes(),
        "total": memory.total_bytes,
        "percent": memory.percent(),
    }});
    with_type("application/json", body.to_string())
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = with_type("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

fn with_type(content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
