// SPDX-License-Identifier: GPL-2.0
//! The scaling curves as a picture.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use plotters::prelude::*;
use vfio_rs_bench::Point;

use crate::record::Record;
use crate::stack::{DRAWN, Stack};

const SIZE: (u32, u32) = (860, 460);

fn color(stack: Stack) -> RGBColor {
    match stack {
        Stack::C => RGBColor(0x55, 0x55, 0x55),
        Stack::IommufdCompat => RGBColor(0xe0, 0x9f, 0x3e),
        Stack::Iommufd => RGBColor(0x33, 0x5c, 0xb8),
        Stack::Ours => RGBColor(0xc1, 0x27, 0x2d),
        Stack::OursIommufd => RGBColor(0x2a, 0x9d, 0x8f),
    }
}

fn title(stack: Stack) -> &'static str {
    match stack {
        Stack::C => "C type1",
        Stack::IommufdCompat => "iommufd, by type1's ioctls",
        Stack::Iommufd => "iommufd",
        Stack::Ours => "vfio-rs type1",
        Stack::OursIommufd => "vfio-rs, iommufd",
    }
}

/// Draws what one more mapping costs, by how many there are, into the file `path`.
///
/// # Errors
/// If there is nothing to draw or the file cannot be written.
pub(crate) fn draw(record: &Record, path: &Path) -> Result<()> {
    let curves: Vec<(Stack, &[Point])> = DRAWN
        .into_iter()
        .filter_map(|stack| Some((stack, &record.stacks.get(stack.name())?.scaling[..])))
        .collect();
    let all = || curves.iter().flat_map(|(_, points)| points.iter());
    ensure!(all().next().is_some(), "no curve was measured");
    let most = all().map(|p| p.mappings).max().unwrap_or(1) as f64;
    let dearest = all().map(|p| p.map).fold(0.0, f64::max);
    paint(&curves, most, dearest, path).map_err(|e| anyhow!("{}: {e}", path.display()))
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn paint(curves: &[(Stack, &[Point])], most: f64, dearest: f64, path: &Path) -> Drawn {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Mapping one more page", ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d((1.0..most * 1.3).log_scale(), 0.0..dearest * 1.2)?;
    chart
        .configure_mesh()
        .x_desc("one-page mappings in the container")
        .y_desc("instructions")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (stack, points) in curves {
        let color = color(*stack);
        let xy = || points.iter().map(|p| (p.mappings as f64, p.map));
        chart
            .draw_series(LineSeries::new(xy(), color.stroke_width(2)))?
            .label(title(*stack))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
        chart.draw_series(xy().map(|at| Circle::new(at, 3, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(RGBColor(0xcc, 0xcc, 0xcc))
        .draw()?;
    area.present()?;
    Ok(())
}
