//! The page as a text, and in a real browser.

use super::page;
use crate::experiment::settings::Settings;
use crate::hardware::timeline::Timeline;
use crate::metrics::TaskMetric;
use crate::results::made_up::{MadeUp, answered, fail, speed_test};
use crate::results::record::{RunRecord, SpeedRecord};
use crate::worker::protocol::Phase;
use crate::workload::measured::{ComparedAnswer, DomainChunks, SpeedSample};
use crate::workload::tasks::record::KeptAnswer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;
use std::process::Command;

/// Text that would be markup, a script, a command for a terminal, or turn the page around.
const HOSTILE: &str = "</script><script>window.hostile=1</script><img src=x onerror=\"window.hostile=1\">'\"&amp;{{ 7 * 7 }} \
                       \u{202e}\u{0}\u{1b}[2J --> ]]>";

/// A run with everything that a page can show: every variant under so many settings.
fn rich(settings: u32) -> RunRecord {
    let settings = (0..settings)
        .map(|at| Settings { gpu_layers: i32::try_from(at).unwrap() * 4, ..Settings::default() });
    let mut run = MadeUp { settings: settings.collect(), gpu: true, ..MadeUp::default() }.run();
    let source = crate::model::source::Source::File("model-F16.gguf".into());
    run.experiment["models"] = serde_json::json!([{ "name": "llama-3.2-1b", "source": source }]);
    for (at, trial) in run.trials.iter_mut().enumerate() {
        for visit in &mut trial.visits {
            for (name, nanoseconds) in
                [("tg128@d512", 4), ("tg128@d4096", 7), ("tg128x4", 9), ("tg128x16", 20)]
            {
                let test = speed_test(name);
                let nanoseconds = nanoseconds * 1_000_000_000 + u64::from(visit.round) * 7_000_000;
                let samples = vec![SpeedSample { nanoseconds, tokens: test.tokens() }];
                visit.speed.push(SpeedRecord { test, samples });
            }
        }
        let counts = (0..40).map(|question| f64::from(u8::from(question % 5 > at % 3))).collect();
        trial.tasks = vec![answered("arc", TaskMetric::Accuracy, counts)];
        let texts = (0..10).map(|question| {
            KeptAnswer::Text(format!("an answer of {} words", question * (at % 4)))
        });
        trial.tasks[0].answers = texts.collect();
        let quality = trial.quality.as_mut().unwrap();
        let (prose, korean) = (0..quality.chunks).partition(|it| it % 2 == 0);
        quality.domains = vec![
            DomainChunks { name: "prose".to_owned(), chunks: prose },
            DomainChunks { name: "korean".to_owned(), chunks: korean },
        ];
        quality.worst_answers = vec![ComparedAnswer {
            domain: "prose".to_owned(),
            prompt: "Why do leaves change colour?".to_owned(),
            kld: f64::from(u32::try_from(at).unwrap()) / 10.0,
            reference: "In autumn the green fades.".to_owned(),
            variant: "In autumn the trees are cold.".to_owned(),
        }];
    }
    run
}

/// The same with text that nobody should trust, wherever text can be.
fn hostile() -> RunRecord {
    let mut run = rich(2);
    let line = "0123456789".repeat(100_000);
    run.name = format!("run {HOSTILE}");
    run.hosts[0].environment.cpu = HOSTILE.to_owned();
    for (at, trial) in run.trials.iter_mut().enumerate() {
        trial.model = format!("model {HOSTILE}");
        if at % 2 == 1 {
            trial.label = format!("{} {HOSTILE}", trial.label);
        }
        let quality = trial.quality.as_mut().unwrap();
        quality.domains[0].name = HOSTILE.to_owned();
        let line = if at == 3 { line.as_str() } else { "" };
        quality.worst_answers[0].prompt = format!("{HOSTILE}\n{line}");
        quality.worst_answers[0].variant =
            if at == 3 { line.to_owned() } else { HOSTILE.to_owned() };
        for response in trial.visits.iter_mut().flat_map(|visit| &mut visit.responses) {
            response.text = format!("{at} {HOSTILE}");
            response.prompt_id = format!("{} {HOSTILE}", response.prompt_id);
        }
        trial.artifact.as_mut().unwrap().path = format!("/cache/{HOSTILE}").into();
    }
    fail(&mut run, 4, 1, Phase::Latency, HOSTILE);
    run
}

fn text(runs: &[RunRecord]) -> String {
    String::from_utf8(page(runs).unwrap()).unwrap()
}

/// The content of the script with an id.
fn script<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("id=\"{id}\">")).unwrap();
    rest.split_once("</script>").unwrap().0
}

/// The data of the first run, unpacked where it is packed.
fn data(page: &str) -> serde_json::Value {
    let text = script(page, "run-1-json");
    if text.starts_with('{') {
        return serde_json::from_str(text).unwrap();
    }
    serde_json::from_str(&unpacked(text)).unwrap()
}

fn unpacked(text: &str) -> String {
    let packed = STANDARD.decode(text).unwrap();
    std::io::read_to_string(flate2::read::GzDecoder::new(packed.as_slice())).unwrap()
}

#[test]
fn a_page_needs_nothing_but_itself() {
    let page = text(&[rich(1)]);
    for attribute in ["src=\"", "href=\"", "url(", "@import"] {
        for (at, _) in page.match_indices(attribute) {
            let target = &page[at + attribute.len()..];
            assert!(target.starts_with(['#']) || target.starts_with("data:"), "{}", &target[..60]);
        }
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn what_was_measured_is_within_the_page_whole() {
    let run = rich(1);
    let page = text(std::slice::from_ref(&run));
    let data = data(&page);
    assert_eq!(serde_json::from_value::<RunRecord>(data["run"].clone()).unwrap(), run);
    let csv: String = serde_json::from_str(script(&page, "run-1-csv")).unwrap();
    assert_eq!(csv.lines().count(), run.trials.len() + 1);
}

#[test]
fn text_of_others_stays_text() {
    let run = hostile();
    let page = text(std::slice::from_ref(&run));
    assert!(
        !page.contains("<script>window")
            && !page.contains("<img")
            && !page.contains(['\u{0}', '\u{1b}'])
    );
    let data = data(&page);
    assert_eq!(data["run"]["name"], run.name, "the data has it as it was");
    let (before, _) = page.split_once("id=\"run-1-json\"").unwrap();
    assert!(
        !before.contains('\u{202e}') && before.contains("{{ 7 * 7 }}"),
        "what is no template is not rendered"
    );
    assert!(before.len() < 3_000_000, "a long line is cut where it is shown: {}", before.len());
}

#[test]
fn every_chapter_has_its_charts_and_what_was_not_measured_leaves_no_hole() {
    let page = text(&[rich(3)]);
    for part in [
        "Divergence over size",
        "Generation speed over size",
        "Prompt speed: pp512",
        "Speed over depth: tg128",
        "Speed over sequences side by side: tg128",
        "Speed over layers on the GPU",
        "Energy per generated token",
        "Time to first token",
        "Time between tokens",
        "Tokens of the answers to",
        "Divergence by domain",
        "Task arc (acc)",
        "Why do leaves change colour?",
        "<del>green fades.</del>",
        "quantbench bench -m llama-3.2-1b-Q4_K_M.gguf -p 512 -n 128",
        "AMD Ryzen 7 7840U",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(
        !page.contains("Divergence over size</bdi></summary>"),
        "what is in sight has its title once"
    );
    // One variant beside the reference is enough for a point.
    let mut two = rich(1);
    two.trials.truncate(2);
    assert!(text(&[two]).contains("Divergence over size"));
    let small = text(&[rich(1)]);
    let folded = small.split_once("<bdi>Hardware while F16").unwrap().1;
    let (chart, _) = folded.split_once("</template>").unwrap();
    assert!(!chart.contains("<h4>"), "a folded chart has its title in its summary alone");
    assert!(chart.contains("GPU power (W)") && chart.contains("processor clock (MHz)"), "{chart}");
    assert!(page.contains("in the same order."), "other words are defined");
    let plain = text(&[MadeUp { quality: false, prompts: 0, ..MadeUp::default() }.run()]);
    for part in ["<h3>Latency", "<h3>Quality", "<h3>Answers", "Energy per", "Tokens of"] {
        assert!(!plain.contains(part), "{part}");
    }
}

#[test]
fn runs_of_one_model_stand_side_by_side_machine_by_machine() {
    let one = rich(1);
    let other = RunRecord { id: "2026-11-24-aaaa".to_owned(), ..rich(1) };
    let mut board = RunRecord { id: "2026-11-25-bbbb".to_owned(), ..rich(1) };
    board.hosts[0].environment.cpu = "Cortex".to_owned();
    let page = text(&[one.clone(), other, board.clone()]);
    let (_, together) = page.split_once("id=\"together\"").unwrap();
    let (together, _) = together.split_once("</section>").unwrap();
    assert!(together.contains("2026-11-24-aaaa") && together.contains("2026-11-23-k3f9"));
    assert!(!together.contains("2026-11-25-bbbb"), "another machine's figures are not among them");
    assert!(!text(&[one, board]).contains("id=\"together\""));
}

/// Of every instrument as many points as are kept, and no two alike.
fn restless() -> Timeline {
    let mut timeline = MadeUp { gpu: true, ..MadeUp::default() }.timeline(1e9, 240);
    let Timeline { worker, processor, gpus } = &mut timeline;
    for trace in [worker, processor].into_iter().chain(gpus.iter_mut().map(|gpu| &mut gpu.trace)) {
        for column in [&mut trace.cpu_cores, &mut trace.watts, &mut trace.celsius, &mut trace.mhz] {
            for value in column.iter_mut().flatten() {
                *value = ((*value + fastrand::f64()) * 10.0).round() / 10.0;
            }
        }
    }
    timeline
}

#[test]
fn a_hundred_trials_are_a_small_file() {
    let mut run = rich(9);
    run.trials.truncate(100);
    assert_eq!(run.trials.len(), 100);
    // As much of the monitor as a real visit has.
    for visit in run.trials.iter_mut().flat_map(|trial| &mut trial.visits) {
        visit.usage = (0..10).flat_map(|_| visit.usage.clone()).collect();
        visit.timeline = restless();
    }
    let page = page(&[run]).unwrap();
    if let Some(path) = std::env::var_os("QUANTBENCH_TEST_PAGE") {
        std::fs::write(path, &page).unwrap();
    }
    assert_eq!(
        data(&String::from_utf8(page.clone()).unwrap())["run"]["trials"].as_array().unwrap().len(),
        100
    );
    assert!(page.len() < 6_000_000, "{}", page.len());
    // Of so many trials the charts that are folded are packed.
    let page = String::from_utf8(page).unwrap();
    let (_, chart) = page.split_once("<template data-packed=\"").unwrap();
    let chart = unpacked(chart.split_once('"').unwrap().0);
    assert!(chart.contains("GPU power (W)") && chart.contains("As a table"), "{chart}");
}

#[cfg(feature = "png")]
#[test]
fn every_chart_is_sound_svg_whatever_was_measured() {
    let made = [
        rich(3),
        hostile(),
        MadeUp::default().run(),
        MadeUp { rounds: 1, ..MadeUp::default() }.run(),
    ];
    let mut count = 0;
    for run in made {
        for figure in crate::report::figures(&run).unwrap() {
            let options = resvg::usvg::Options::default();
            resvg::usvg::Tree::from_str(&figure.svg, &options).unwrap();
            assert!(
                figure.name.chars().all(|it| it.is_ascii_alphanumeric() || "-_".contains(it)),
                "{}",
                figure.name
            );
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}

/// What a browser made of a page, and what its console said.
fn in_browser(page: &str, width: u32) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    std::fs::write(&path, page).unwrap();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let run = |name: &&str| {
        let mut command = Command::new(name);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
            "--virtual-time-budget=20000",
        ]);
        command.args([
            "--enable-logging=stderr",
            "--v=0",
            "--no-first-run",
            "--disable-background-networking",
        ]);
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        command
            .arg(format!("--window-size={width},900"))
            .arg(format!("file://{}", Path::new(&path).display()));
        command.output().ok()
    };
    let output = names.iter().find_map(run).expect("chromium is installed (Debian: chromium)");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let console: Vec<String> = text(&output.stderr)
        .lines()
        .filter(|line| line.contains(":CONSOLE"))
        .map(str::to_owned)
        .collect();
    (text(&output.stdout), console.join("\n"))
}

/// The page with the self-check behind it.
fn checked(runs: &[RunRecord], more: &str) -> String {
    let page = text(runs);
    let nonce = page.split_once("'nonce-").unwrap().1.split_once('\'').unwrap().0;
    let check = format!(
        "<script nonce=\"{nonce}\">{more}{}</script></body>",
        include_str!("self_check.js")
    );
    page.replace("</body>", &check)
}

/// What the self-check wrote.
fn found(dom: &str) -> Vec<&str> {
    let Some((_, rest)) = dom.split_once("<pre id=\"self-check\">") else {
        panic!("the self-check did not end: {} bytes, {}", dom.len(), &dom[..dom.len().min(300)]);
    };
    rest.split_once("</pre>").unwrap().0.lines().collect()
}

#[test]
#[ignore = "needs Chromium: make test-browser"]
fn in_chromium_a_person_can_do_what_the_page_offers() {
    let many = rich(9);
    for (runs, width) in [
        (vec![rich(2)], 1280),
        (vec![hostile()], 1280),
        (vec![many.clone()], 390),
        (vec![rich(1), many], 390),
    ] {
        let page = checked(&runs, "");
        let (dom, console) = in_browser(&page, width);
        assert_eq!(console, "", "{width}");
        let found = found(&dom);
        assert!(
            found.len() > 15 && found.iter().all(|line| line.starts_with("ok ")),
            "{width}\n{}",
            found.join("\n")
        );
    }
}

#[test]
#[ignore = "needs Chromium: make test-browser"]
fn in_chromium_what_goes_wrong_is_noticed() {
    let page = checked(&[rich(1)], "console.warn('seen');");
    let (_, console) = in_browser(&page, 1280);
    assert!(console.contains("seen"), "{console}");
    let broken = checked(&[rich(1)], "").replace("body.append(...rows)", "body.append()");
    let (dom, _) = in_browser(&broken, 1280);
    assert!(
        found(&dom).iter().any(|line| line.starts_with("FAILED a click sorts")),
        "{:?}",
        found(&dom)
    );
    // A script that got into the page without the nonce would not run.
    let smuggled =
        checked(&[rich(1)], "").replace("</main>", "<script>window.hostile=1</script></main>");
    let (dom, console) = in_browser(&smuggled, 1280);
    assert!(
        found(&dom).contains(&"ok hostile text is text")
            && console.contains("Content Security Policy"),
        "{console}"
    );
}
