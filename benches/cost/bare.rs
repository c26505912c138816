//! The least that a poll can cost in this language: reqwest, asked in a loop by as many tasks as the watcher has requests in flight, on a
//! runtime like its own. It sends what the watcher sends, reads the answer to its end, and looks at nothing.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::api::id;

pub(crate) const IN_FLIGHT: usize = 16;

/// `bare URL EXECUTIONS POLLS [one]`: polls so many times, going round the executions, and ends; `one`: all on one thread.
pub(crate) fn run(arguments: &[String]) {
    let url = format!("{}/v2/workflow/executions/get", arguments[0]);
    let [executions, polls] = [1, 2].map(|at| arguments[at].parse::<usize>().expect("a count"));
    let one = arguments.get(3).is_some_and(|word| word == "one");
    let mut builder =
        if one { tokio::runtime::Builder::new_current_thread() } else { tokio::runtime::Builder::new_multi_thread() };
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().expect("a client");
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let (client, next, url) = (client.clone(), Arc::clone(&next), url.clone());
            tasks.spawn(async move {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= polls {
                        return;
                    }
                    let mut headers = HeaderMap::with_capacity(3);
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    headers.insert("x-velt-api-key", HeaderValue::from_static("key"));
                    headers.insert("x-velt-auth-token", HeaderValue::from_static("token"));
                    let mut body = String::with_capacity(80);
                    write!(body, r#"{{"data":{{"executionId":"{}"}}}}"#, id(nth % executions))
                        .expect("a String takes every write");
                    let request = client.post(&url).headers(headers).body(body);
                    let answer = request.send().await.expect("an answer").bytes().await.expect("a body");
                    assert!(!answer.is_empty(), "an answer holds something");
                }
            });
        }
        tasks.join_all().await;
    });
}
