//! Post-processing: the filters of depth, the alignment of depth to color (or color to depth), and the colors of depth.
//! A [`ProcessingChain`] runs these steps, in this order, on the frames of one pad. librealsense implements the steps
//! ([`Block`]). Alignment takes framesets, which [`crate::reader`] combines.

use crate::camera::{Block, Error, Filter, Frame, HoleFilling, StreamKind};

/// The properties that select the steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Processing {
    /// The number of pixels, in both directions, that become one; 1 disables the filter.
    pub(crate) decimation: u8,
    /// The least and the greatest depth, in meters.
    pub(crate) threshold: Option<(f32, f32)>,
    pub(crate) spatial: bool,
    pub(crate) temporal: bool,
    pub(crate) hole_filling: Option<HoleFilling>,
    pub(crate) align: Option<StreamKind>,
    pub(crate) colorize: bool,
}

impl Default for Processing {
    fn default() -> Self {
        Self {
            decimation: 1,
            threshold: None,
            spatial: false,
            temporal: false,
            hole_filling: None,
            align: None,
            colorize: false,
        }
    }
}

impl Processing {
    /// The stream that frames of this stream are aligned to.
    pub(crate) fn reference(&self, kind: StreamKind) -> Option<StreamKind> {
        self.align.filter(|to| *to != kind && matches!(kind, StreamKind::Color | StreamKind::Depth))
    }

    /// The size of a depth image after decimation.
    pub(crate) fn decimated(&self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.decimation <= 1 {
            return (width, height);
        }
        // librealsense pads both sides to a multiple of 4.
        let side = |pixels: u32| (pixels / u32::from(self.decimation)).next_multiple_of(4);
        (side(width), side(height))
    }

    fn filters(&self) -> Vec<Filter> {
        let mut filters = Vec::new();
        filters.extend((self.decimation > 1).then_some(Filter::Decimation(self.decimation)));
        filters.extend(self.threshold.map(|(min, max)| Filter::Threshold { min, max }));
        filters.extend(self.spatial.then_some(Filter::Spatial));
        filters.extend(self.temporal.then_some(Filter::Temporal));
        filters.extend(self.hole_filling.map(Filter::HoleFilling));
        filters
    }
}

/// The steps for the frames of one pad.
pub(crate) struct ProcessingChain {
    kind: StreamKind,
    processing: Processing,
    blocks: Vec<Block>,
    align: Option<Block>,
    colorizer: Option<Block>,
}

impl ProcessingChain {
    /// Creates the steps for frames of this stream.
    pub(crate) fn new(kind: StreamKind, processing: Processing) -> Result<Self, Error> {
        let depth = kind == StreamKind::Depth;
        let filters = if depth { processing.filters() } else { Vec::new() };
        let blocks = filters.into_iter().map(Block::filter).collect::<Result<_, _>>()?;
        let align = processing.reference(kind).map(Block::align).transpose()?;
        let colorizer = if depth && processing.colorize { Some(Block::colorizer()?) } else { None };
        Ok(Self { kind, processing, blocks, align, colorizer })
    }

    /// Whether the chain runs exactly these steps.
    pub(crate) fn matches(&self, processing: &Processing) -> bool {
        self.processing == *processing
    }

    /// Runs the steps on a frame. Returns the result and, if it was colored, the depth frame behind it, which carries
    /// more metadata. Returns `None` if the steps have no result for this frame.
    pub(crate) fn run(&self, frame: Frame) -> Result<Option<(Frame, Option<Frame>)>, Error> {
        let mut frame = frame;
        for block in &self.blocks {
            let Some(next) = block.process(&frame)? else { return Ok(None) };
            frame = next;
        }
        if let Some(align) = &self.align {
            let Some(set) = align.process(&frame)? else { return Ok(None) };
            let Some(part) = self.part_of(&set)? else { return Ok(None) };
            frame = part;
        }
        match &self.colorizer {
            None => Ok(Some((frame, None))),
            Some(colorizer) => Ok(colorizer.process(&frame)?.map(|colored| (colored, Some(frame)))),
        }
    }

    fn part_of(&self, set: &Frame) -> Result<Option<Frame>, Error> {
        let parts = set.parts()?;
        if parts.len() < 2 {
            // The frame of the other stream was lost.
            return Ok(None);
        }
        for part in parts {
            if part.mode()?.is_some_and(|mode| mode.kind == self.kind) {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimated_sizes_are_those_of_the_library() {
        let sizes = |decimation, size| Processing { decimation, ..Processing::default() }.decimated(size);
        assert_eq!(sizes(1, (641, 479)), (641, 479));
        assert_eq!(sizes(2, (640, 480)), (320, 240));
        assert_eq!(sizes(2, (848, 480)), (424, 240));
        assert_eq!(sizes(3, (848, 480)), (284, 160));
        assert_eq!(sizes(8, (424, 240)), (56, 32));
    }

    #[test]
    fn only_color_and_depth_are_aligned_and_not_to_themselves() {
        let to_color = Processing { align: Some(StreamKind::Color), ..Processing::default() };
        assert_eq!(to_color.reference(StreamKind::Depth), Some(StreamKind::Color));
        assert_eq!(to_color.reference(StreamKind::Color), None);
        assert_eq!(to_color.reference(StreamKind::Infrared(1)), None);
        assert_eq!(Processing::default().reference(StreamKind::Depth), None);
    }
}
