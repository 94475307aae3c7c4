// Tiles of SPAN tokens in workgroup memory for attention in the tiled family: two tiles of vec4 columns, which fit in the
// 16 KiB that every adapter has.
const SPAN = max(1u, min(16u, 480u / DEPTH4));

var<workgroup> first_tile: array<vec4f, SPAN * DEPTH4>;
var<workgroup> second_tile: array<vec4f, SPAN * DEPTH4>;
