// What a block of wide.cuh does in its turns, how its warps share it, and the warps that fetch.
#pragma once
#include "wide_decode.cuh"

struct WideItem { int tile, row_tile, feature_tile, split, from, to; };

// What a block does in its turns, and where its warps find it.
struct WidePlan
{
    int units, items;
    i64 tiles;

    __device__ WidePlan(const WideCall& call)
    {
        units = (int)((call.weight.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS);
        items = call.whole + (call.tiles - call.whole) * call.splits;
        tiles = (call.weight.rows + UNIT_ROWS - 1) / UNIT_ROWS;
    }

    __device__ WideItem item(const WideCall& call, int n) const
    {
        int rest = n - call.whole, tile = rest < 0 ? n : call.whole + rest / call.splits, splits = rest < 0 ? 1 : call.splits, split = rest < 0 ? 0 : rest % call.splits;
        // The last part has `later` units more than the others, which are then written when it ends.
        int equal = units - (splits > 1 ? call.later : 0);
        return {tile, tile % call.row_tiles, tile / call.row_tiles, split, equal * split / splits, split + 1 < splits ? equal * (split + 1) / splits : units};
    }

    __device__ i64 tile(const WideCall& call, const WideItem& item, int warps, int warp) const
    {
        return min(call.first / UNIT_ROWS + (i64)item.feature_tile * warps + warp, tiles - 1);
    }
};

// The units of a block's items, one after the other.
struct WideWalk
{
    int n, unit;
    WideItem item;

    __device__ WideWalk(const WidePlan& plan, const WideCall& call) : n(blockIdx.x) { enter(plan, call); }
    __device__ bool inside(const WidePlan& plan) const { return n < plan.items; }
    // True at an item's first unit.
    __device__ bool first() const { return unit == item.from; }
    __device__ void next(const WidePlan& plan, const WideCall& call)
    {
        if (++unit < item.to) return;
        n += gridDim.x;
        enter(plan, call);
    }

    __device__ void enter(const WidePlan& plan, const WideCall& call)
    {
        if (!inside(plan)) return;
        item = plan.item(call, n);
        unit = item.from;
    }
};

// A place in a ring of stages: which one, and the parity of its turn.
template <int STAGES>
struct RingPlace
{
    int stage;
    u32 parity;
    __device__ RingPlace(u32 first) : stage(0), parity(first) {}
    __device__ void next()
    {
        if (++stage < STAGES) return;
        stage = 0;
        parity ^= 1;
    }
};

// D: how a format is decoded. GROUPS warpgroups multiply, one fetches; x comes through X_STAGES, codes and scales through W_STAGES.
template <class D, int N, int GROUPS, int BLOCKS, int X_STAGES, int W_STAGES>
struct WideShape
{
    static const int WORKERS = 4 * GROUPS, BLOCK_THREADS = 128 * GROUPS + 128, STAGE = N * STAGE_ROW;
    // A unit's scales of a warp: planes as they are fetched, and what is made of them in their place.
    static const int SCALES = D::PLANES * 128, CODES = WORKERS * D::UNIT_BYTES, W_STAGE = CODES + WORKERS * SCALES;
    // Registers of a thread at the start, of one that fetches, and of one that multiplies.
    static const int AT_START = 65536 / (BLOCK_THREADS * BLOCKS) / 8 * 8, FEW_REGISTERS = N > 192 ? 56 : 72, REGISTERS = (AT_START * (GROUPS + 1) - FEW_REGISTERS) / GROUPS / 8 * 8;
    // A table of levels stands between what is small and x.
    static const int SMALL = W_STAGES * W_STAGE + GROUPS * D::END_BYTES, SHARED = D::LEVELS ? 2 * LEVEL_TABLE + X_STAGES * STAGE : 1024 + X_STAGES * STAGE + SMALL + D::TABLE_BYTES;
    static_assert(!D::LEVELS || SMALL <= LEVELS_BEFORE, "room before the table");

    // What a block's warps share.
    struct Shared
    {
        StageBarrier x_full[X_STAGES], x_empty[X_STAGES], w_full[W_STAGES], w_empty[W_STAGES];
        u32 arrived[GROUPS];
        float map[256];
    };

    __device__ static void open(Shared& shared)
    {
        for (int s = 0; s < X_STAGES; s++)
        {
            barrier_init(shared.x_full + s, 1);
            barrier_init(shared.x_empty + s, WORKERS);
        }

        for (int s = 0; s < W_STAGES; s++)
        {
            barrier_init(shared.w_full + s, WORKERS + (D::PLANES > 0 ? 2 : 0));
            barrier_init(shared.w_empty + s, WORKERS);
        }

        barriers_are_ready();
    }

    // x, half a unit a stage.
    __device__ static void fetch_x(const WideCall& call, const WidePlan& plan, const StageMap* plain_x, u8* stages, Shared& shared)
    {
        RingPlace<X_STAGES> at(1);
        await_previous();
        for (int n = blockIdx.x; n < plan.items; n += gridDim.x)
        {
            WideItem item = plan.item(call, n);
            const u8* x = call.x + ((i64)item.row_tile * plan.units + item.from) * D::HALVES * STAGE;
            for (int half = D::HALVES * item.from; half < D::HALVES * item.to; half++, x += STAGE)
            {
                barrier_wait(shared.x_empty + at.stage, at.parity);
                barrier_expect(shared.x_full + at.stage, STAGE);
                if (call.plain) fetch_rows(stages + at.stage * STAGE, plain_x, 64 * half, item.row_tile * N, N, shared.x_full + at.stage);
                else fetch_bytes(stages + at.stage * STAGE, x, STAGE, shared.x_full + at.stage);
                at.next();
            }
        }
    }

    // Codes of a warp that multiplies, for each lane's own one.
    __device__ static void fetch_codes(const WideCall& call, const WidePlan& plan, u8* stages, Shared& shared)
    {
        const Packed& p = call.weight;
        int own = threadIdx.x & 31;
        RingPlace<W_STAGES> at(1);
        for (int n = blockIdx.x; own < WORKERS && n < plan.items; n += gridDim.x)
        {
            WideItem item = plan.item(call, n);
            const u8* codes = (const u8*)p.codes + plan.tile(call, item, WORKERS, own) * p.tile_words * 4 + (i64)item.from * D::UNIT_BYTES;
            for (int unit = item.from; unit < item.to; unit++, codes += D::UNIT_BYTES)
            {
                barrier_wait(shared.w_empty + at.stage, at.parity);
                barrier_expect(shared.w_full + at.stage, D::UNIT_BYTES);
                fetch_bytes(stages + at.stage * W_STAGE + own * D::UNIT_BYTES, codes, D::UNIT_BYTES, shared.w_full + at.stage);
                at.next();
            }
        }
    }

    __device__ static void groups_of(const typename D::Cursor& at, int unit, u32* groups)
    {
#pragma unroll
        for (int part = 0; part < D::PARTS; part++) groups[part] = at.group_of(unit, part);
    }

    // Scales and offsets for every other warp that multiplies, from `own` on: fetched ahead, then made what those take. All weights' scales come by here,
    // and these warps have little time: what is the same for several warps is computed once.
    template <bool PLAIN>
    __device__ static void fetch_scales(const WideCall& call, const WidePlan& plan, int own, u8* stages, Shared& shared)
    {
        const Packed& p = call.weight;
        const int OF_ONE = WORKERS / 2, AHEAD = W_STAGES - 1;
        int lane = threadIdx.x & 31;
        WideWalk ahead(plan, call), now(plan, call);
        RingPlace<W_STAGES> to(1), at(0);
        typename D::Cursor cursors[OF_ONE], here[PLAIN ? 1 : OF_ONE];
        u8* first = stages + CODES + own * SCALES;
        auto open = [&](typename D::Cursor* cursors, const WideItem& item, int count)
        {
#pragma unroll
            for (int w = 0; w < count; w++) cursors[w].open(p, plan.tile(call, item, WORKERS, 2 * w + own), lane);
        };
        auto fetch = [&]()
        {
            if (ahead.inside(plan))
            {
                if (ahead.first()) open(cursors, ahead.item, OF_ONE);
                u32* words = (u32*)(first + to.stage * W_STAGE) + lane;
                u32 groups[D::PARTS];
                groups_of(cursors[0], ahead.unit, groups);
                barrier_wait(shared.w_empty + to.stage, to.parity);
#pragma unroll
                for (int w = 0; w < OF_ONE; w++)
                {
                    D::template places<PLAIN>(p, cursors[w], groups, [&](int plane, const u32* place) { fetch_word(words + w * (2 * SCALES / 4) + plane * 32, place); });
                }

                to.next();
                ahead.next(plan, call);
            }

            copies_commit();
        };
        for (int k = 0; k < AHEAD; k++) fetch();
        for (; now.inside(plan); now.next(plan, call))
        {
            u8* stage = first + at.stage * W_STAGE;
            const u32* words = (const u32*)stage + lane;
            u32 groups[D::PARTS];
            if (!PLAIN)
            {
                if (now.first()) open(here, now.item, OF_ONE);
                groups_of(here[0], now.unit, groups);
            }

            // A lane takes what it fetched itself.
            copies_wait<AHEAD - 1>();
            Couple made[OF_ONE][D::PARTS];
#pragma unroll
            for (int w = 0; w < OF_ONE; w++) D::template prepare<PLAIN>(p, here[PLAIN ? 0 : w], groups, words + w * (2 * SCALES / 4), shared.map, made[w]);
            __syncwarp();
#pragma unroll
            for (int n = 0; n < OF_ONE * D::PARTS; n++) *(Couple*)(stage + n / D::PARTS * 2 * SCALES + D::prepared_at(lane, n % D::PARTS)) = made[n / D::PARTS][n % D::PARTS];
            __syncwarp();
            if (lane == 0) barrier_arrive(shared.w_full + at.stage);
            at.next();
            fetch();
        }
    }
};
