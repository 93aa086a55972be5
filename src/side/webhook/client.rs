//! One attempt to post a webhook (webhooks 2 and 6).
//!
//! Knows neither batches nor retries. Only 2xx is success: redirects are not followed, and nothing
//! comes from the environment, so that a proxy set for other programs sees no webhooks.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client as Http, Response};
use tokio::time::{Instant, timeout_at};

use crate::app::webhook::Endpoint;

use super::address::{PrivateAddress, Resolver, names_private_address};
use super::counters::Failure;

const USER_AGENT: &str = concat!("shardcast/", env!("CARGO_PKG_VERSION"));

/// Bytes of a response's body that are read, so that its connection can be used again.
const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// How long a connection waits for the next webhook. Less than the five seconds after which
/// Node's server closes one: a webhook should not meet that Close half-way.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// Connections of one host that wait so.
const IDLE_PER_HOST_MAX: usize = 20;

/// A webhook as it is sent, in every attempt alike.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub key: HeaderValue,
    pub signature: HeaderValue,
    pub body: Bytes,
}

/// What became of an attempt that failed.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub why: Failure,
    /// For people; may be empty.
    pub cause: String,
}

impl From<Failure> for Failed {
    fn from(why: Failure) -> Self {
        let cause = match why {
            Failure::Status(status) => status.to_string(),
            _ => String::new(),
        };
        Self { why, cause }
    }
}

/// Somebody who makes one attempt: the client here, or a test.
pub(super) trait Post {
    /// Success means that the endpoint has taken it. `timeout` is that of the response's head.
    async fn post(
        &self,
        endpoint: &Endpoint,
        sealed: &Sealed,
        timeout: Duration,
    ) -> Result<(), Failed>;
}

/// The HTTP client of all endpoints.
#[derive(Debug)]
pub(super) struct Client {
    http: Http,
    refuse_private: bool,
}

impl Client {
    /// Without certificate authorities on the system it still posts over plain HTTP.
    pub(super) fn new(refuse_private: bool) -> Self {
        // Err if there is one already, which is then as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = builder(refuse_private).build().unwrap_or_else(|error| {
            let reason = error.source().map(ToString::to_string);
            tracing::error!(
                reason,
                "no certificate authorities: https endpoints will fail"
            );
            let without = builder(refuse_private).tls_certs_only([]);
            without.build().expect("nothing else of it can fail")
        });
        Self {
            http,
            refuse_private,
        }
    }
}

fn builder(refuse_private: bool) -> reqwest::ClientBuilder {
    Http::builder()
        .http1_only()
        // Receivers in PHP and Go read `X-Pusher-Key` literally.
        .http1_title_case_headers()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        // Attempts are counted and timed here.
        .retry(reqwest::retry::never())
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .dns_resolver(Arc::new(Resolver::new(refuse_private)))
}

impl Post for Client {
    async fn post(
        &self,
        endpoint: &Endpoint,
        sealed: &Sealed,
        timeout: Duration,
    ) -> Result<(), Failed> {
        const KEY: HeaderName = HeaderName::from_static("x-pusher-key");
        const SIGNATURE: HeaderName = HeaderName::from_static("x-pusher-signature");
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        if self.refuse_private && names_private_address(&endpoint.url) {
            return Err(Failure::PrivateAddress.into());
        }
        let mut headers = endpoint.headers.clone();
        // Behind the endpoint's own, so that those never win.
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(KEY, sealed.key.clone());
        headers.insert(SIGNATURE, sealed.signature.clone());
        let request = self.http.post(endpoint.url.clone());
        let request = request.headers(headers).body(sealed.body.clone());
        let answered = timeout_at(Instant::now() + timeout, request.send()).await;
        let response = match answered {
            Err(_) => return Err(Failure::Timeout.into()),
            Ok(Err(error)) => return Err(failed(&error)),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if !status.is_success() {
            // Its connection is closed with it: what it says is of no interest.
            return Err(Failure::Status(status.as_u16()).into());
        }
        // It has been taken, whatever becomes of the rest.
        let _ = timeout_at(Instant::now() + timeout, discard(response)).await;
        Ok(())
    }
}

/// Reads a body to its end, so that the connection can be used again, but not for ever.
async fn discard(mut response: Response) {
    let mut bytes = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes += chunk.len();
        if bytes > RESPONSE_BYTES_MAX {
            return;
        }
    }
}

/// Without the outermost error, which names the URL: its query may be secret.
fn failed(error: &reqwest::Error) -> Failed {
    let mut why = Failure::Network;
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        if error.is::<PrivateAddress>() {
            why = Failure::PrivateAddress;
        }
        causes.push(error.to_string());
        next = error.source();
    }
    let cause = causes.join(": ");
    Failed { why, cause }
}
