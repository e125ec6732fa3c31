//! `augury demo`: the server with the sample patients loaded, and what came of them as a table.

use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Days, TimeDelta, Utc};
use models::Assessment;
use models::assessment::{InputIssue, InputValue, IssueKind};
use models::manifest::OutputKind;
use store::Context;

use super::serve;
use crate::app::{self, App};
use crate::config::Config;
use crate::http::request::LIMITS;
use crate::rest::bundle;
use crate::scoring::ask::Question;
use crate::scoring::assessment::percent;
use crate::scoring::gather;

/// The sample patients (server/demo), dates still to be filled in.
const PATIENTS: &[(&str, &str)] = &[
    ("demo-anna", include_str!("../../demo/demo-anna.json")),
    ("demo-bruno", include_str!("../../demo/demo-bruno.json")),
    ("demo-chen", include_str!("../../demo/demo-chen.json")),
    ("demo-dora", include_str!("../../demo/demo-dora.json")),
    ("demo-emil", include_str!("../../demo/demo-emil.json")),
    ("demo-farah", include_str!("../../demo/demo-farah.json")),
    ("demo-george", include_str!("../../demo/demo-george.json")),
    ("demo-hana", include_str!("../../demo/demo-hana.json")),
    ("demo-ivan", include_str!("../../demo/demo-ivan.json")),
    ("demo-jonas", include_str!("../../demo/demo-jonas.json")),
    ("demo-kira", include_str!("../../demo/demo-kira.json")),
    ("demo-liam", include_str!("../../demo/demo-liam.json")),
    ("demo-mona", include_str!("../../demo/demo-mona.json")),
    ("demo-noor", include_str!("../../demo/demo-noor.json")),
    ("demo-omar", include_str!("../../demo/demo-omar.json")),
    ("demo-pia", include_str!("../../demo/demo-pia.json")),
    ("demo-quinn", include_str!("../../demo/demo-quinn.json")),
    ("demo-rosa", include_str!("../../demo/demo-rosa.json")),
    ("demo-sven", include_str!("../../demo/demo-sven.json")),
];

pub(super) fn run(config: Config) -> anyhow::Result<ExitCode> {
    actix_web::rt::System::new().block_on(async {
        let running = serve::start(config).await?;
        let app = Arc::clone(&running.app);
        let shown = actix_web::rt::spawn(async move { show(&app).await });
        let ended = running.until_end().await;
        if shown.is_finished() {
            shown.await??;
        }
        ended?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn show(app: &Arc<App>) -> anyhow::Result<()> {
    let now = Utc::now();
    for (name, template) in PATIENTS {
        let text = fill(template, now);
        let resource = fhir::json::parse(text.as_bytes(), &LIMITS).context(*name)?;
        let context = Context::system("demo", app::now());
        bundle::import(app, &context, resource, None)
            .await
            .map_err(|failure| anyhow::anyhow!("{name}: {failure}"))?;
    }
    wait_for_scoring(app).await?;
    let mut out = String::new();
    for (name, _) in PATIENTS {
        out.push_str(&told(app, name).await?);
    }
    let url = &app.config.public_url;
    let _ = write!(
        out,
        "\nOpen {url}/docs, or ask:\n  curl '{url}/fhir/RiskAssessment?patient=demo-anna'\n  curl '{url}/fhir/Patient/demo-anna/$assess-risk?model=prevent-base'\nServing until Ctrl-C.\n"
    );
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(())
}

async fn wait_for_scoring(app: &App) -> anyhow::Result<()> {
    for _ in 0..600 {
        if app.store.backlog(&Context::system("demo", app::now())).await?.waiting == 0 {
            return Ok(());
        }
        actix_web::rt::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("scoring has not ended after 30 s")
}

/// What each model says of a patient: the numbers first, then the refusals; and what they stand on.
async fn told(app: &Arc<App>, patient: &str) -> anyhow::Result<String> {
    let context = Context::system("demo", app::now());
    let assessments = gather::assess_stored(app, &context, patient, &Question::default())
        .await
        .map_err(|failure| anyhow::anyhow!("{patient}: {failure}"))?;
    let (scored, refused): (Vec<_>, Vec<_>) = assessments.iter().partition(|one| one.scored().is_some());
    let mut out = format!("{patient}\n");
    for assessment in scored {
        out.push_str(&numbers(assessment));
        out.push_str(&grounds(assessment));
    }
    for assessment in refused {
        let _ = writeln!(out, "  {:<13} refused: {}", assessment.model.id, reasons(assessment.refusals()));
        out.push_str(&grounds(assessment));
    }
    Ok(out)
}

/// A line for each number.
fn numbers(assessment: &Assessment) -> String {
    let mut out = String::new();
    let reported = assessment.scored().into_iter().flat_map(|scored| &scored.outputs);
    for output in reported.filter(|output| output.spec.reported) {
        let number = match output.spec.kind {
            OutputKind::Probability => format!("{:.1} %", percent(output.value)),
            OutputKind::Score => {
                let digits = usize::from(output.spec.decimals);
                format!("{:.digits$} {}", output.value, output.spec.unit.as_deref().unwrap_or_default())
            }
            OutputKind::Component | OutputKind::Flag => continue,
        };
        let model = if out.is_empty() { assessment.model.id.as_str() } else { "" };
        let band = output.band.as_ref().map_or("", |band| band.label.as_str());
        let line = format!("  {model:<13} {:<19} {number:<21} {band}", output.spec.key);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `used age 52 a, sex female`, then what was taken for granted, and what else there is to know.
fn grounds(assessment: &Assessment) -> String {
    let used = assessment.used.iter().map(|input| {
        let unit = input.unit.as_deref().unwrap_or_default();
        format!("{} {} {unit}", input.name, shown(&input.value)).trim_end().to_owned()
    });
    let assumed = assessment.assumed.iter().map(|one| format!("{} {}", one.input, shown(&one.value)));
    let remarks = reasons(assessment.issues.iter().filter(|issue| !issue.refuses));
    let mut out = String::new();
    let lines = [
        ("used", used.collect::<Vec<_>>().join(", ")),
        ("assumed", assumed.collect::<Vec<_>>().join(", ")),
        ("remarks", remarks),
    ];
    for (what, text) in lines.iter().filter(|(_, text)| !text.is_empty()) {
        let _ = writeln!(out, "    {what:<11} {text}");
    }
    out
}

fn shown(value: &InputValue) -> String {
    match value {
        InputValue::Number(number) => ((number * 100.0).round() / 100.0).to_string(),
        InputValue::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        InputValue::Code(code) => code.to_string(),
    }
}

/// `missing ast, alt; stale platelets`
fn reasons<'i>(issues: impl Iterator<Item = &'i InputIssue>) -> String {
    let mut kinds: Vec<(&str, Vec<&str>)> = Vec::new();
    for issue in issues {
        let (kind, what) = match issue.kind {
            IssueKind::Population => ("", issue.details.as_str()),
            kind => (kind.code(), issue.input.as_ref()),
        };
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, all)) => all.push(what),
            None => kinds.push((kind, vec![what])),
        }
    }
    let told = kinds.iter().map(|(kind, what)| format!("{kind} {}", what.join(", ")).trim().to_owned());
    told.collect::<Vec<_>>().join("; ")
}

/// `{{now-3d}}` becomes a dateTime, `{{date-52y}}` a date; the units are m, h, d, y.
fn fill(template: &str, now: DateTime<Utc>) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((mark, tail)) = after.split_once("}}") else {
            rest = after;
            break;
        };
        let (word, back) = mark.split_once('-').unwrap_or((mark, "0d"));
        let at = earlier(now, back);
        match word {
            "date" => out.push_str(&at.format("%Y-%m-%d").to_string()),
            _ => out.push_str(&at.format("%Y-%m-%dT%H:%M:%SZ").to_string()),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn earlier(now: DateTime<Utc>, back: &str) -> DateTime<Utc> {
    let unit = back.chars().last().unwrap_or('d');
    let count: i64 = back.trim_end_matches(char::is_alphabetic).parse().unwrap_or(0);
    match unit {
        'm' => now - TimeDelta::minutes(count),
        'h' => now - TimeDelta::hours(count),
        'y' => {
            let months = chrono::Months::new(u32::try_from(count).unwrap_or(0).saturating_mul(12));
            // A day more, so that the birthday is behind us whatever the time zone.
            now.checked_sub_months(months).and_then(|at| at.checked_sub_days(Days::new(1))).unwrap_or(now)
        }
        _ => now - TimeDelta::days(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_filled_in() {
        let now = "2026-03-10T12:00:00Z".parse().unwrap();
        assert_eq!(fill("a {{now-3d}} b", now), "a 2026-03-07T12:00:00Z b");
        assert_eq!(fill("{{now-20m}}{{now}}", now), "2026-03-10T11:40:00Z2026-03-10T12:00:00Z");
        assert_eq!(fill("{{date-52y}}", now), "1974-03-09");
        assert_eq!(fill("no {{ end", now), "no  end");
    }
}
