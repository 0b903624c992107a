//! Statistics of small samples: nothing here knows what was measured.
