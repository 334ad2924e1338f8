//! The properties of one access unit: whether decoding can start there, its parameter sets, and the format of its pictures.

/// Where decoding can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessUnitKind {
    /// An instantaneous decoding refresh: nothing after it refers to anything before it. H.264: an IDR picture;
    /// VP8: a key frame.
    Idr,
    /// A recovery point: a decoder that starts here produces correct pictures after some time (H.264, D.2.8).
    RecoveryPoint,
    /// An intra picture, but later pictures may refer to earlier ones.
    Intra,
    /// Refers to other pictures.
    Delta,
}

/// A parsed access unit. The parser stops at the header of the first slice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AccessUnit<'a> {
    pub(crate) kind: AccessUnitKind,
    /// The unit has B slices, which usually arrive out of presentation order.
    pub(crate) bidirectional: bool,
    /// The parameter sets in the unit, without start codes (H.264: SPS and PPS).
    pub(crate) parameter_sets: Vec<&'a [u8]>,
    /// The offset at which parameter sets can be inserted: after an access unit delimiter.
    pub(crate) insert_at: usize,
}

impl AccessUnit<'_> {
    /// A unit without optional parts.
    pub(crate) fn new(kind: AccessUnitKind) -> Self {
        Self { kind, bidirectional: false, parameter_sets: Vec::new(), insert_at: 0 }
    }
}

/// The chroma format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chroma {
    /// 4:0:0, gray.
    Monochrome,
    Yuv420,
    Yuv422,
    Yuv444,
}

/// The format of the pictures, read from the bitstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VideoFormat {
    /// The name of the profile in GStreamer's caps.
    pub(crate) profile: &'static str,
    pub(crate) chroma: Chroma,
    /// The bits per sample: the maximum of luma and chroma.
    pub(crate) bit_depth: u8,
    /// The size in pixels after cropping.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Pictures may be coded as fields.
    pub(crate) interlaced: bool,
    /// The frame rate as a fraction, if the bitstream declares it.
    pub(crate) frame_rate: Option<(u32, u32)>,
}
