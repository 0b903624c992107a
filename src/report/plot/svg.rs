//! How a plot is drawn: as SVG, by plotters, which knows axes and coordinates; and what can be pointed at, which it does
//! not know and which is laid over the drawing.

use super::axis::Axis;
use super::labels::{Labels, text_width};
use super::{Colour, Draw, Panel, Plot, Series, Shade, Spot};
use crate::causes::Problem;
use crate::report::text::{sanitize, shorten, wrap};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::Write as _;

/// plotters counts whole pixels: drawn so many times as large as it is shown, lines are smooth.
const SCALE: i32 = 2;

/// Width of a drawing as it is shown.
const WIDTH: i32 = 470;

/// Size of letters, and of those in rows that stand close.
const LETTERS: i32 = 12;
const SMALL_LETTERS: i32 = 10;

/// Columns of a name beside a row.
const NAME_COLUMNS: usize = 26;

/// From this many rows on they stand close.
const MANY_ROWS: usize = 30;

/// plotters divides sizes of letters by it where it writes SVG.
const OF_LETTERS: f64 = 1.24;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Context<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type DrawError = DrawingAreaErrorKind<std::io::Error>;

/// Where a drawing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum Use {
    /// Into a page, which says the title and restyles letters and colours.
    InPage,
    /// Into a file of its own.
    Alone,
}

/// A stretch of the drawing that tells something when it is pointed at; corners in pixels of the drawing.
struct Hit {
    from: (i32, i32),
    to: (i32, i32),
    tip: String,
}

/// The drawing.
///
/// # Errors
/// None that a plot can cause; plotters may have some.
pub(in crate::report) fn draw(plot: &Plot, purpose: Use) -> Result<String, Problem> {
    let mut text = String::new();
    let hits = drawn(plot, purpose, &mut text).map_err(|source| {
        Problem::because(format!("the chart '{}' could not be drawn", plot.title), source)
    })?;
    Ok(finished(plot, purpose, &text, &hits))
}

fn drawn(plot: &Plot, purpose: Use, into: &mut String) -> Result<Vec<Hit>, DrawError> {
    let title = match purpose {
        Use::InPage => Vec::new(),
        Use::Alone => wrap(&plot.title, 60, ""),
    };
    let legend = legend(plot);
    let lines = |count: usize, height: i32| i32::try_from(count).unwrap_or(0) * height;
    let above = lines(title.len(), 20) + lines(legend.len(), 18) + 6;
    let heights: Vec<i32> = plot.panels.iter().map(|panel| height(plot, panel)).collect();
    let below = 24 + if plot.x.title().is_empty() { 0 } else { 18 };
    let whole = above + heights.iter().sum::<i32>() + below;
    let size = [WIDTH, whole].map(|length| u32::try_from(length * SCALE).unwrap_or(1));
    let root = SVGBackend::with_string(into, (size[0], size[1])).into_drawing_area();
    if purpose == Use::Alone {
        root.fill(&rgb(Colour::Paper))?;
    }
    let mut y = 4;
    for line in &title {
        let style = letters(LETTERS + 1, Colour::Ink).pos(Pos::new(HPos::Left, VPos::Top));
        root.draw_text(line, &style, scaled((6, y)))?;
        y += 20;
    }
    for line in &legend {
        draw_legend(&root, line, y)?;
        y += 18;
    }
    let mut hits = Vec::new();
    let left = left_of(plot);
    let last = plot.panels.len().saturating_sub(1);
    let mut top = above;
    for (at, (panel, height)) in plot.panels.iter().zip(&heights).enumerate() {
        let bottom = top + height + if at == last { below } else { 0 };
        let (_, area) = root.split_vertically(top * SCALE);
        let (area, _) = area.split_vertically((bottom - top) * SCALE);
        let below = (at == last).then_some(below);
        let shaded = (at == 0).then(|| (above + heights.iter().sum::<i32>()) * SCALE);
        let frame = Frame { left, below, shaded };
        hits.extend(draw_panel(&root, &area, (plot, panel), &frame)?);
        top += height;
    }
    root.present()?;
    drop(root);
    Ok(hits)
}

/// Height of a panel as it is shown.
fn height(plot: &Plot, panel: &Panel) -> i32 {
    match panel.y.rows() {
        Some(rows) => {
            let of_row = if rows.len() > MANY_ROWS { 14 } else { 24 };
            let rows = i32::try_from(rows.len()).unwrap_or(i32::MAX / 1000).min(2000);
            (rows * of_row).max(30) + 8
        }
        None if plot.panels.len() > 1 => 78,
        None => 270,
    }
}

/// Room for what is written beside the axes.
fn left_of(plot: &Plot) -> i32 {
    let widths = plot.panels.iter().flat_map(|panel| {
        if let Some(rows) = panel.y.rows() {
            let size = size_of(rows);
            let width = |name: &String| text_width(&shorten(name, NAME_COLUMNS), size);
            return rows.iter().map(width).collect::<Vec<_>>();
        }
        let ticks = panel.y.ticks(ticks_of(plot));
        ticks.into_iter().map(|tick| text_width(&panel.y.name(tick), LETTERS)).collect()
    });
    widths.max().unwrap_or(0).max(24) + 12
}

fn size_of(rows: &[String]) -> i32 {
    if rows.len() > MANY_ROWS { SMALL_LETTERS } else { LETTERS }
}

/// Values that are named beside a panel.
fn ticks_of(plot: &Plot) -> usize {
    if plot.panels.len() > 1 { 3 } else { 7 }
}

/// What is around a panel.
struct Frame {
    /// Room for what is written beside it.
    left: i32,
    /// Room for the x axis, below the last panel.
    below: Option<i32>,
    /// How far down shades reach that begin in it, pixels of the drawing.
    shaded: Option<i32>,
}

fn draw_panel<'a>(
    root: &Area<'a>,
    area: &Area<'a>,
    (plot, panel): (&Plot, &Panel),
    &Frame { left, below, shaded }: &Frame,
) -> Result<Vec<Hit>, DrawError> {
    let is_rows = panel.y.rows().is_some();
    let headed = if panel.y.title().is_empty() { 4 } else { 20 };
    let mut chart: Context<'_, 'a> = ChartBuilder::on(area)
        .margin_top(headed * SCALE)
        .margin_right(14 * SCALE)
        .set_label_area_size(LabelAreaPosition::Bottom, below.unwrap_or(4) * SCALE)
        .set_label_area_size(LabelAreaPosition::Left, left * SCALE)
        .build_cartesian_2d(plot.x.clone(), panel.y.clone())?;
    let (xs, ys) = chart.plotting_area().get_pixel_range();
    let mut hits = match shaded {
        Some(bottom) => shade(root, &plot.shades, &chart, &(ys.start..bottom))?,
        None => Vec::new(),
    };
    let small = panel.y.rows().map_or(LETTERS, size_of);
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(rgb(Colour::Grid).stroke_width(1))
        .axis_style(rgb(Colour::Grey).stroke_width(1))
        .label_style(letters(LETTERS, Colour::Ink))
        .y_label_style(letters(small, Colour::Ink))
        .set_all_tick_mark_size(3 * SCALE)
        .x_labels(7)
        .y_labels(ticks_of(plot));
    if is_rows {
        mesh.disable_y_mesh();
    }
    if !plot.shades.is_empty() {
        mesh.disable_x_mesh();
    }
    let name_x = |value: &f64| if below.is_some() { plot.x.name(*value) } else { String::new() };
    let name_y = |value: &f64| shorten(&panel.y.name(*value), NAME_COLUMNS);
    mesh.x_label_formatter(&name_x).y_label_formatter(&name_y);
    mesh.draw()?;
    if below.is_some() && !plot.x.title().is_empty() {
        let style = letters(LETTERS, Colour::Ink).pos(Pos::new(HPos::Right, VPos::Bottom));
        let (_, bottom) = area.get_pixel_range();
        root.draw_text(plot.x.title(), &style, (xs.end, bottom.end - 2 * SCALE))?;
    }
    if !panel.y.title().is_empty() {
        let style = letters(LETTERS, Colour::Ink).pos(Pos::new(HPos::Left, VPos::Bottom));
        root.draw_text(panel.y.title(), &style, (6 * SCALE, ys.start - 5 * SCALE))?;
    }
    let row_height = panel
        .y
        .rows()
        .map_or(0, |rows| (ys.end - ys.start) / i32::try_from(rows.len().max(1)).unwrap_or(1));
    let mut labels = Labels::within(&xs, &ys);
    for series in &panel.series {
        hits.extend(draw_series(root, &chart, series, is_rows, row_height, &mut labels)?);
    }
    for (spot, place) in labels.placed() {
        let style =
            letters(SMALL_LETTERS + 1, Colour::Ink).pos(Pos::new(place.anchor, VPos::Center));
        root.draw_text(&spot, &style, place.at)?;
    }
    Ok(hits)
}

fn draw_series(
    root: &Area<'_>,
    chart: &Context<'_, '_>,
    series: &Series,
    is_rows: bool,
    row_height: i32,
    labels: &mut Labels,
) -> Result<Vec<Hit>, DrawError> {
    let colour = rgb(series.colour);
    let at = |x: f64, y: f64| chart.backend_coord(&(x, y));
    let places: Vec<(i32, i32)> = series.spots.iter().map(|spot| at(spot.x, spot.y)).collect();
    let thin = colour.stroke_width(u32::try_from(SCALE).unwrap_or(1) * 3 / 2);
    match series.draw {
        Draw::Line | Draw::Trace => root.draw(&PathElement::new(places.clone(), thin))?,
        Draw::Front => root.draw(&PathElement::new(corners(&places), colour.stroke_width(2)))?,
        Draw::Points | Draw::Bars(_) => {}
    }
    let mut hits = Vec::new();
    for (spot, &(x, y)) in series.spots.iter().zip(&places) {
        let end = |value: f64| if is_rows { at(value, spot.y) } else { at(spot.x, value) };
        let mut reach = ((x, y), (x, y));
        if let Draw::Bars(thickness) = series.draw {
            #[expect(clippy::cast_possible_truncation, reason = "pixels of a row")]
            let half = (f64::from(row_height) * thickness / 2.0).max(2.0) as i32;
            let from = at(spot.from, spot.y);
            root.draw(&Rectangle::new(
                [(from.0, y - half), (x.max(from.0 + 1), y + half)],
                colour.filled(),
            ))?;
            reach = ((from.0, y - half), (x, y + half));
        }
        let whisker = match series.draw {
            Draw::Bars(_) => rgb(Colour::Ink),
            _ => colour,
        };
        if let Some((low, high)) = spot.span {
            let style = whisker.stroke_width(u32::try_from(SCALE).unwrap_or(1));
            root.draw(&PathElement::new(vec![end(low), end(high)], style))?;
        }
        if let Some((low, high)) = spot.inner {
            root.draw(&PathElement::new(vec![end(low), end(high)], whisker.stroke_width(8)))?;
        }
        if matches!(series.draw, Draw::Points | Draw::Line) {
            let radius = if is_rows && row_height < 40 { 5 } else { 8 };
            root.draw(&Circle::new((x, y), radius, rgb(Colour::Paper).filled()))?;
            root.draw(&Circle::new((x, y), radius - 1, colour.filled()))?;
        }
        if !matches!(series.draw, Draw::Trace | Draw::Front) {
            labels.occupy((x, y));
        }
        if !spot.label.is_empty() {
            labels.want(&spot.label, (x, y));
        }
        if !spot.tip.is_empty() {
            let ((left, top), (right, bottom)) = reach;
            let (left, right) = if right - left < 14 { (x - 9, x + 9) } else { (left, right) };
            let (top, bottom) = if bottom - top < 14 { (y - 9, y + 9) } else { (top, bottom) };
            hits.push(Hit { from: (left, top), to: (right, bottom), tip: spot.tip.clone() });
        }
    }
    Ok(hits)
}

/// A path through points that first keeps the height of the one before.
fn corners(places: &[(i32, i32)]) -> Vec<(i32, i32)> {
    let mut path: Vec<(i32, i32)> = Vec::new();
    for &(x, y) in places {
        path.extend(path.last().map(|&(_, before)| (x, before)));
        path.push((x, y));
    }
    path
}

fn shade(
    root: &Area<'_>,
    shades: &[Shade],
    chart: &Context<'_, '_>,
    ys: &std::ops::Range<i32>,
) -> Result<Vec<Hit>, DrawError> {
    let mut hits = Vec::new();
    for (at, Shade { from, to, name, tip }) in shades.iter().enumerate() {
        let [left, right] = [*from, *to].map(|x| chart.backend_coord(&(x, 0.0)).0);
        let corners = [(left, ys.start), (right, ys.end)];
        if at % 2 == 0 {
            root.draw(&Rectangle::new(corners, rgb(Colour::Shade).filled()))?;
        }
        let name_width = text_width(name, SMALL_LETTERS - 1) * SCALE;
        if name_width < right - left {
            let style =
                letters(SMALL_LETTERS - 1, Colour::Grey).pos(Pos::new(HPos::Left, VPos::Top));
            root.draw_text(name, &style, (left + 3, ys.start + 2))?;
        }
        hits.push(Hit { from: corners[0], to: corners[1], tip: tip.clone() });
    }
    Ok(hits)
}

/// Names of series with their colours, in lines that fit.
fn legend(plot: &Plot) -> Vec<Vec<(Colour, Draw, String)>> {
    let mut lines: Vec<Vec<(Colour, Draw, String)>> = Vec::new();
    let mut x = WIDTH;
    let mut told: Vec<&str> = Vec::new();
    for series in plot.panels.iter().flat_map(|panel| &panel.series) {
        if series.name.is_empty() || told.contains(&series.name.as_str()) || series.spots.is_empty()
        {
            continue;
        }
        told.push(&series.name);
        let name = shorten(&series.name, NAME_COLUMNS + 14);
        let width = text_width(&name, LETTERS) + 34;
        if x + width > WIDTH {
            lines.push(Vec::new());
            x = 6;
        }
        x += width;
        if let Some(line) = lines.last_mut() {
            line.push((series.colour, series.draw, name));
        }
    }
    lines
}

fn draw_legend(root: &Area<'_>, line: &[(Colour, Draw, String)], y: i32) -> Result<(), DrawError> {
    let mut x = 6;
    for (colour, draw, name) in line {
        let style = rgb(*colour);
        let middle = y + 8;
        match draw {
            Draw::Bars(_) => {
                let corners = [scaled((x, middle - 5)), scaled((x + 12, middle + 5))];
                root.draw(&Rectangle::new(corners, style.filled()))?;
            }
            Draw::Points => root.draw(&Circle::new(scaled((x + 6, middle)), 9, style.filled()))?,
            Draw::Line | Draw::Trace | Draw::Front => {
                let ends = vec![scaled((x, middle)), scaled((x + 14, middle))];
                root.draw(&PathElement::new(ends, style.stroke_width(4)))?;
            }
        }
        let style = letters(LETTERS, Colour::Ink).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw_text(name, &style, scaled((x + 18, middle)))?;
        x += text_width(name, LETTERS) + 34;
    }
    Ok(())
}

fn scaled((x, y): (i32, i32)) -> (i32, i32) {
    (x * SCALE, y * SCALE)
}

fn rgb(colour: Colour) -> RGBColor {
    let (red, green, blue) = colour.rgb();
    RGBColor(red, green, blue)
}

fn letters(size: i32, colour: Colour) -> TextStyle<'static> {
    let size = f64::from(size * SCALE) * OF_LETTERS;
    let mut style = TextStyle::from(("sans-serif", size).into_font());
    style.color = rgb(colour).to_backend_color();
    style
}

/// plotters' text with what it lacks: a name for those who hear it, and what is told of what is pointed at.
fn finished(plot: &Plot, purpose: Use, text: &str, hits: &[Hit]) -> String {
    let text = text.replace(" opacity=\"1\"", "").replace(" stroke=\"none\"", "");
    let text = match purpose {
        Use::InPage => text.replace(" font-family=\"sans-serif\"", ""),
        Use::Alone => text,
    };
    let body = text.split_once('>').map_or("", |(_, rest)| rest);
    let body = body.trim_end().trim_end_matches("</svg>");
    let view = text.split_once("viewBox=\"").and_then(|(_, rest)| rest.split_once('"'));
    let view = view.map_or("0 0 1 1", |(view, _)| view);
    let title = escaped(&plot.title);
    let mut whole = match purpose {
        Use::InPage => format!(
            "<svg class=\"chart\" viewBox=\"{view}\" role=\"img\" tabindex=\"0\" aria-label=\"{title}\">"
        ),
        Use::Alone => {
            let size: Vec<&str> = view.split(' ').skip(2).collect();
            format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"{view}\" \
                 role=\"img\">\n<title>{title}</title>\n<desc>{}</desc>",
                size.first().unwrap_or(&"1"),
                size.get(1).unwrap_or(&"1"),
                escaped(&plot.reading)
            )
        }
    };
    whole.push_str(body);
    whole.push_str("<g fill=\"#000000\" fill-opacity=\"0\">");
    for Hit { from, to, tip } in hits {
        let (width, height) = (to.0 - from.0, to.1 - from.1);
        // Writing to a string does not fail.
        let _ = write!(
            whole,
            "<rect x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{height}\"",
            from.0, from.1
        );
        let tip = tip.lines().map(|line| escaped(&sanitize(line))).collect::<Vec<_>>().join("\n");
        let _ = match purpose {
            Use::InPage => write!(whole, " data-tip=\"{tip}\"/>"),
            Use::Alone => write!(whole, "><title>{tip}</title></rect>"),
        };
    }
    whole.push_str("</g></svg>\n");
    whole
}

/// Text as XML and HTML have it.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

impl Spot {
    /// One in a row.
    pub(super) fn in_row(at: usize, value: f64, tip: String) -> Self {
        Self { x: value, y: super::axis::row(at), tip, ..Self::default() }
    }
}
