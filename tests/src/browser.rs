//! A browser without scripts: keeps cookies, reads forms, follows nothing by itself.

use std::collections::BTreeMap;

use anyhow::Context;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::HeaderName;
use reqwest::redirect;

use crate::{Answer, Server};

/// One browser.
#[derive(Debug)]
pub struct Browser<'s> {
    server: &'s Server,
    http: Client,
    cookies: BTreeMap<String, String>,
}

impl<'s> Browser<'s> {
    /// One that was never here.
    pub fn new(server: &'s Server) -> anyhow::Result<Self> {
        let http = crate::builder().redirect(redirect::Policy::none()).build()?;
        Ok(Self { server, http, cookies: BTreeMap::new() })
    }

    /// The same, at an address that a proxy says.
    pub fn at(server: &'s Server, address: &str) -> anyhow::Result<Self> {
        let headers = [(HeaderName::from_static("x-forwarded-for"), address.parse()?)].into_iter().collect();
        let http = crate::builder().redirect(redirect::Policy::none()).default_headers(headers).build()?;
        Ok(Self { http, ..Self::new(server)? })
    }

    /// Asks for an address of the server's.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        let request = self.http.get(self.server.url(path));
        self.send(request)
    }

    /// Sends a form.
    pub fn post(&mut self, path: &str, pairs: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let request = self.http.post(self.server.url(path)).form(pairs);
        self.send(request)
    }

    /// Sends a form of a page: with what is hidden in it, and these pairs.
    pub fn submit(&mut self, page: &Answer, path: &str, pairs: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let (request, csrf) = (hidden(&page.text, "request"), hidden(&page.text, "csrf"));
        let mut all = vec![("request", request.as_str()), ("csrf", csrf.as_str())];
        all.extend_from_slice(pairs);
        self.post(path, &all)
    }

    /// Goes where the answer leads, on this server.
    pub fn follow(&mut self, answer: &Answer) -> anyhow::Result<Answer> {
        anyhow::ensure!(answer.status == 303, "{} leads nowhere: {}", answer.status, answer.text);
        let to = answer.header("location").to_owned();
        anyhow::ensure!(to.starts_with('/'), "leads away: {to}");
        self.get(&to)
    }

    /// Forgets who is signed in.
    pub fn forget(&mut self) {
        self.cookies.clear();
    }

    fn send(&mut self, request: RequestBuilder) -> anyhow::Result<Answer> {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) };
        let response: Response = request.send()?;
        for set in response.headers().get_all("set-cookie") {
            let text = set.to_str()?;
            let (name, rest) = text.split_once('=').context("a cookie without a name")?;
            let value = rest.split(';').next().unwrap_or_default();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Answer::of(response)
    }
}

/// The value of a hidden field of a page's first form.
fn hidden(page: &str, name: &str) -> String {
    let field = format!("name=\"{name}\" value=\"");
    let value = page.split_once(&field).and_then(|(_, rest)| rest.split_once('"')).map(|(value, _)| value);
    value.unwrap_or_default().to_owned()
}

/// The values that a page's boxes have, ticked or not.
pub fn boxes(page: &str) -> Vec<(String, bool)> {
    let rest = page.split("type=\"checkbox\" name=\"scope\" value=\"").skip(1);
    rest.filter_map(|rest| {
        let (value, rest) = rest.split_once('"')?;
        let (attributes, _) = rest.split_once('>')?;
        Some((value.replace("&#38;", "&"), attributes.contains("checked")))
    })
    .collect()
}
