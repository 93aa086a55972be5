//! The metrics listener: its answers, and every series of a scrape.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::{Response, Server, Tcp, WAIT};

/// One answer of a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Response {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

pub fn ask(address: SocketAddr, request: &str) -> Response {
    let mut tcp = Tcp::connect(address);
    tcp.send(request);
    let answer = match request.starts_with("HEAD") {
        true => Response::read_head(&mut tcp),
        false => Response::read(&mut tcp),
    };
    tcp.expect_end();
    answer
}

/// Every series of a scrape: name with labels, and value.
pub struct Scrape(pub BTreeMap<String, f64>);

impl Scrape {
    pub fn of(server: &Server) -> Self {
        let answer = get(server.metrics_address(), "/metrics");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let content_type = answer.header("Content-Type");
        assert!(content_type.is_some_and(|t| t.starts_with("text/plain; version=0.0.4")));
        let lines = answer.text().lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect(line);
            (name.to_owned(), value.parse().expect(line))
        });
        Self(series.collect())
    }

    /// The sum over the series of this name with all of these labels.
    #[track_caller]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let is_it = |series: &str| {
            let bare = series.split('{').next().unwrap_or(series);
            bare == name && labels.iter().all(|label| series.contains(label))
        };
        let found: Vec<f64> = self
            .0
            .iter()
            .filter(|(series, _)| is_it(series))
            .map(|(_, value)| *value)
            .collect();
        assert!(
            !found.is_empty(),
            "no {name} {labels:?} in {:#?}",
            self.0.keys()
        );
        found.iter().sum()
    }

    /// Until something holds of what is scraped.
    pub fn until(server: &Server, holds: impl Fn(&Self) -> bool) -> Self {
        let until = Instant::now() + WAIT;
        loop {
            let scrape = Self::of(server);
            if holds(&scrape) {
                return scrape;
            }
            assert!(Instant::now() < until, "{:#?}", scrape.0);
            thread::sleep(Duration::from_millis(20));
        }
    }
}
