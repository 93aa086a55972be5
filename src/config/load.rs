//! Decides the configuration: for every option the strongest of default, file, environment and
//! flag.
//!
//! Does not read the process's own environment or arguments; they are given, so that a test can
//! give others. Nothing is half decided: there is a whole configuration or a list of all that is
//! wrong.
//!
//! Invariant: in what is returned every row of the table has one value and the source of it.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::file::{self, AppEntry, File, Setting};
use super::form::DEVELOPMENT_SECRET;
use super::host::{Host, show_cores};
use super::problem::{Problem, Source};
use super::table::{self, Default, ENV_PREFIX, Lookup, Place, Row, Scope};
use super::value::Value;
use super::{Config, apps};
use crate::app::AppTable;

/// All that may say what an option is.
pub struct Sources {
    /// Of `--config`; else `SHARDCAST_CONFIG` names the file, else there is none.
    pub file: Option<PathBuf>,
    /// Every name and value; others than ours are passed over.
    pub env: Vec<(OsString, OsString)>,
    /// By the key of the option.
    pub flags: Vec<(&'static Row, String)>,
    pub host: Host,
}

/// What the environment and the flags say may be secret.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A configuration and how it came about.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub apps: Arc<AppTable>,
    /// Some app has credentials that everybody knows.
    pub development: bool,
    /// What is allowed and yet worth a line in the log.
    pub notices: Vec<String>,
    /// One for every row, in the order of the table.
    pub settings: Settings,
    /// As the file has them; empty where the single app stands for them.
    pub app_entries: Vec<AppEntry>,
}

/// A value and a source for every row.
#[derive(Debug)]
pub struct Settings(pub Vec<Setting>);

/// # Errors
///
/// Everything that is wrong, in the order of file, environment, flags, and then of what does not
/// fit together.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let file = match sources.named_file() {
        Some((path, source)) => file::read(&path, &source, &mut problems),
        None => File::default(),
    };
    decide(file, sources, problems)
}

pub(super) fn decide(
    file: File,
    sources: &Sources,
    mut problems: Vec<Problem>,
) -> Result<Loaded, Vec<Problem>> {
    let env = read_env(&sources.env, &mut problems);
    let flags = read_flags(&sources.flags, &mut problems);
    // Strongest first.
    let mut settings = Settings::decide(&[flags, env, file.settings], &sources.host);
    let single = table::build_single_app(&settings);
    let development = if file.apps.is_empty() {
        single.secret == DEVELOPMENT_SECRET
    } else {
        settings.refuse_single_app(&mut problems);
        file.apps
            .iter()
            .flat_map(|app| &app.keys)
            .any(|(_, secret)| secret == DEVELOPMENT_SECRET)
    };
    if development && file.apps.is_empty() {
        settings.turn_on_client_events();
    }
    let config = table::build_config(&settings);
    check_together(&config, &settings, &sources.host, &mut problems);
    let apps = apps::build(&file.apps, &single, &settings, &mut problems);
    match apps {
        Some(apps) if problems.is_empty() => {
            let notices = notices(&config);
            Ok(Loaded {
                config,
                apps: Arc::new(apps),
                development,
                notices,
                settings,
                app_entries: file.apps,
            })
        }
        _ => Err(problems),
    }
}

impl Sources {
    /// The file that is asked for, and by whom. It is not looked for anywhere else.
    pub fn named_file(&self) -> Option<(PathBuf, Source)> {
        if let Some(path) = &self.file {
            return Some((path.clone(), Source::Flag("--config".into())));
        }
        let (name, path) = self.env.iter().find(|(name, _)| *name == *CONFIG_ENV)?;
        Some((
            path.into(),
            Source::Env(name.to_string_lossy().into_owned()),
        ))
    }
}

pub(super) const CONFIG_ENV: &str = "SHARDCAST_CONFIG";

fn read_env(env: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (name, value) in env {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        if !name.starts_with(ENV_PREFIX) || name == CONFIG_ENV || is_service_link(&name, &value) {
            continue;
        }
        match table::all().find(|row| row.env() == name) {
            None => {
                let option = name[ENV_PREFIX.len()..].to_ascii_lowercase();
                problems.push(Problem::unknown(&option, name, Place::Top));
            }
            // What is not UTF-8 has become U+FFFD, which a secret would take.
            Some(row) => match row
                .kind
                .read_text(&value)
                .filter(|_| !value.contains('\u{fffd}'))
            {
                Some(value) => settings.push(Setting {
                    row,
                    value,
                    source: Source::Env(name.into()),
                }),
                None => problems.push(Problem::value(row, value, name)),
            },
        }
    }
    settings
}

/// Kubernetes tells every container of every service: with one called `shardcast` there are
/// `SHARDCAST_PORT=tcp://10.0.0.1:6001`, `SHARDCAST_SERVICE_HOST` and others, which are
/// meant for nobody here.
fn is_service_link(name: &str, value: &str) -> bool {
    name.starts_with("SHARDCAST_SERVICE_")
        || name.starts_with("SHARDCAST_PORT_")
        || (name == "SHARDCAST_PORT"
            && (value.starts_with("tcp://") || value.starts_with("udp://")))
}

fn read_flags(flags: &[(&'static Row, String)], problems: &mut Vec<Problem>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (row, text) in flags {
        let flag = format!("--{}", row.flag());
        match row.kind.read_text(text) {
            Some(value) => settings.push(Setting {
                row,
                value,
                source: Source::Flag(flag),
            }),
            None => problems.push(Problem::value(row, text, flag)),
        }
    }
    settings
}

impl Settings {
    fn decide(layers: &[Vec<Setting>], host: &Host) -> Self {
        let mut decided = Self(Vec::new());
        for row in table::all() {
            let given = layers
                .iter()
                .flatten()
                .find(|setting| setting.row.key == row.key);
            let setting = given.cloned().unwrap_or_else(|| decided.default(row, host));
            decided.0.push(setting);
        }
        decided
    }

    fn default(&self, row: &'static Row, host: &Host) -> Setting {
        let (value, source) = match row.default {
            Default::Is(text) => {
                let value = row
                    .kind
                    .read_text(text)
                    .expect("a test reads every default");
                (value, Source::Default)
            }
            Default::Found(how, find) => (find(host, self), Source::Found(how)),
        };
        Setting { row, value, source }
    }

    /// The setting of a row.
    pub fn setting(&self, key: &str) -> &Setting {
        let found = self.0.iter().find(|setting| setting.row.key == key);
        found.expect("only keys of rows are looked up")
    }

    /// Takes the options of the process from the configuration that it runs with.
    pub fn keep_process(&mut self, running: &Self) {
        let process = self.0.iter_mut().filter(|s| s.row.scope == Scope::Process);
        for setting in process {
            *setting = running.setting(setting.row.key).clone();
        }
    }

    /// So that every example of every client library works against the development app.
    fn turn_on_client_events(&mut self) {
        let events = self.0.iter_mut().find(|s| s.row.key == "client_events");
        if let Some(setting) = events.filter(|s| s.source == Source::Default) {
            setting.value = Value::Switch(true);
            setting.source = Source::Found("on for the development app");
        }
    }

    /// Beside `[[apps]]` nobody could say which app they mean.
    fn refuse_single_app(&self, problems: &mut Vec<Problem>) {
        let single = self.0.iter().filter(|s| s.row.scope == Scope::SingleApp);
        for setting in single.filter(|s| s.source != Source::Default) {
            let reason = "the file has `[[apps]]`, so give it there";
            problems.push(Problem::other(
                setting.row.key,
                setting.source.to_string(),
                reason,
            ));
        }
    }
}

impl Lookup for Settings {
    fn value(&self, key: &str) -> &Value {
        &self.setting(key).value
    }
}

/// What no row can say alone.
fn check_together(config: &Config, settings: &Settings, host: &Host, problems: &mut Vec<Problem>) {
    let mut refuse = |key: &str, reason: String| {
        let setting = settings.setting(key);
        let value = setting.row.kind.toml(&setting.value);
        let mut problem = Problem::value(setting.row, value, setting.source.to_string());
        problem.reason = reason;
        problems.push(problem);
    };
    if config.cores.iter().any(|core| !host.cores.contains(core)) {
        let reason = format!(
            "must be among those the process may run on: {}",
            show_cores(&host.cores)
        );
        refuse("cores", reason);
    }
    if config.connections_max as u64 > host.descriptors_max {
        let reason = format!(
            "must be within the descriptor limit of {}",
            host.descriptors_max
        );
        refuse("connections_process_max", reason);
    }
    if config.proxy_protocol && config.trusted_proxies.is_empty() {
        refuse(
            "proxy_protocol",
            "needs `trusted_proxies`: any client could write such a header".into(),
        );
    }
    if config.outbox_shard_bytes_max < config.outbox_bytes_max {
        refuse(
            "outbox_shard_bytes_max",
            "must be at least `outbox_bytes_max`".into(),
        );
    }
    if config.request_shard_bytes_max < config.body_bytes_max {
        refuse(
            "request_shard_bytes_max",
            "must be at least `body_bytes_max`".into(),
        );
    }
}

fn notices(config: &Config) -> Vec<String> {
    let mut notices = Vec::new();
    if config.shards > config.cores.len() {
        notices.push(format!(
            "{} shards on {} cores: workers share cores and wait for each other; for tests only",
            config.shards,
            config.cores.len()
        ));
    }
    notices
}
