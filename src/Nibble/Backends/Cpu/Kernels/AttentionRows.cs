using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// Attention of a few queries over the keys of one head. Scores stand with keys as rows and queries as lanes, so that the softmax
/// of a vector of queries needs no sums across lanes, keys and values are read as they lie in the cache, and both products are
/// tiles of the matrix product. Row r of the queries is head r mod Group of token r / Group.
/// </summary>
internal unsafe struct AttentionRows<S, V, F>
    where S : struct, ILanes<V>
    where V : unmanaged
    where F : struct, IKvFormat
{
    private const int KeyBlock = 96;
    private const int TileRows = 6, HalfTileRows = 8;

    public float* Query, Output;
    public byte* Keys, Values;
    public int Tokens, Group;
    public nint TokenStride, Dim, Last, First, Window;
    public float Scale;

    /// <summary>The first key of each token, not falling; null where <see cref="First"/> holds for all.</summary>
    public int* Firsts;

    /// <summary>Keys to attend to, counted from the first that the first row sees; the result of a part of them goes to <see cref="Partial"/>.</summary>
    public nint From, Count;

    /// <summary>Where weighted values, largest score and sum of weights of each row go instead of the output, or null.</summary>
    public float* Partial;

    // Scratch: scaled queries as panels, scores [key][row], weighted values [row][dim]; per row largest score, sum, correction.
    private float* _queries, _scores, _sums, _largest, _total, _correction;

    // A block of keys and values as floats.
    private float* _keys, _values, _widened;

    private readonly int Rows => Tokens * Group;

    // Lanes of a panel of queries: the heads that share keys are often few, and one vector holds a token's.
    private readonly int Width => Rows <= S.Count ? S.Count : 2 * S.Count;

    private readonly int PaddedRows => (Rows + Width - 1) / Width * Width;

    /// <summary>Attends and writes the output.</summary>
    public void Run()
    {
        nint first = FirstKey(0) + From, end = nint.Min(LastKey(Rows - 1) + 1, first + Count);
        if (Rows == 1)
        {
            // Lanes of a single query would stand empty.
            float* output = Partial == null ? Output : Partial;
            Finish(0, output, AttentionRow<S, V, F>.Run(Query, output, Keys, Values, first, end, Dim, Scale));
            return;
        }

        nint rows = PaddedRows;
        using CpuScratch.Lease scratch = CpuScratch.Rent(
            ((2 * rows * Dim) + (KeyBlock * rows) + (3 * rows) + (2 * KvRows<S, V, F>.Scratch(KeyBlock, Dim))) * sizeof(float));
        _queries = (float*)scratch.Pointer;
        _sums = _queries + (rows * Dim);
        _scores = _sums + (rows * Dim);
        _largest = _scores + (KeyBlock * rows);
        _total = _largest + rows;
        _correction = _total + rows;
        _widened = _correction + rows;
        PackQueries();
        new Span<float>(_sums, (int)(rows * Dim)).Clear();
        new Span<float>(_largest, (int)rows).Fill(float.NegativeInfinity);
        new Span<float>(_total, (int)rows).Clear();
        for (nint key = first; key < end; key += KeyBlock)
        {
            RunBlock(key, (int)nint.Min(KeyBlock, end - key));
        }

        for (int row = 0; row < Rows; row++)
        {
            float* output = Partial == null ? QueryRow(Output, row) : Partial + (row * AttentionMerge<S, V>.RowFloats(Dim));
            new Span<float>(_sums + (row * Dim), (int)Dim).CopyTo(new Span<float>(output, (int)Dim));
            Finish(row, output, (_largest[row], _total[row]));
        }
    }

    private readonly void Finish(int row, float* sums, (float Largest, float Total) weights)
    {
        if (Partial != null)
        {
            (sums[Dim], sums[Dim + 1]) = weights;
        }
        else if (LastKey(row) >= FirstKey(row))
        {
            Reduce<S, V>.Scale(sums, 1 / weights.Total, Dim);
        }
    }

    private readonly nint LastKey(int row) => Last + (row / Group);

    private readonly nint FirstKey(int row)
    {
        nint first = Firsts == null ? First : Firsts[row / Group];
        return Window > 0 ? nint.Max(first, LastKey(row) - Window + 1) : first;
    }

    private readonly float* QueryRow(float* tensor, int row) => tensor + (row / Group * TokenStride) + (row % Group * Dim);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void PackQueries()
    {
        for (int row = 0; row < PaddedRows; row++)
        {
            float* source = QueryRow(Query, row);
            float* target = _queries + (row / Width * Width * Dim) + (row % Width);
            for (nint k = 0; k < Dim; k++)
            {
                target[k * Width] = row < Rows ? source[k] * Scale : 0;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void RunBlock(nint key, int count)
    {
        nint rowBytes = F.RowBytes(Dim);
        _keys = KvRows<S, V, F>.Load(Keys + (key * rowBytes), count, Dim, _widened);
        _values = KvRows<S, V, F>.Load(Values + (key * rowBytes), count, Dim, _widened + KvRows<S, V, F>.Scratch(KeyBlock, Dim));
        int most = Width == S.Count ? HalfTileRows : TileRows;
        for (int i = 0; i < count;)
        {
            int keys = count - i >= most ? most : count - i >= 4 ? 4 : count - i >= 2 ? 2 : 1;
            Scores(_keys + (i * Dim), keys, _scores + (i * PaddedRows));
            i += keys;
        }

        for (int row = 0; row < Rows; row++)
        {
            Hide(key, count, row);
        }

        for (int row = 0; row < PaddedRows; row += S.Count)
        {
            Softmax(count, row);
        }

        for (int row = 0; row < Rows; row++)
        {
            if (_correction[row] != 1)
            {
                Reduce<S, V>.Scale(_sums + (row * Dim), _correction[row], Dim);
            }
        }

        for (int row = 0; row < Rows; row += TileRows)
        {
            Weigh(key, count, row, int.Min(TileRows, Rows - row));
        }
    }

    // scores[key][row] = key·query for some keys and all rows.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Scores(float* keys, int count, float* scores)
    {
        Tile tile = new()
        {
            Depth = Dim, A = keys, AStep = Dim, B = (byte*)_queries, BStep = Width * sizeof(float), C = scores, CStride = PaddedRows,
            PanelBytes = Width * Dim * sizeof(float),
        };
        if (Width == S.Count)
        {
            HalfScores(count, tile);
            return;
        }

        for (int row = 0; row < PaddedRows;)
        {
            int panels = count == TileRows && PaddedRows - row >= 2 * Width ? Gemm<S, V>.TilePanels : 1;
            switch (count)
            {
                case 1: Tiles<S, V, FloatLoader>.StridedR1P1(tile); break;
                case 2: Tiles<S, V, FloatLoader>.StridedR2P1(tile); break;
                case 4: Tiles<S, V, FloatLoader>.StridedR4P1(tile); break;
                default:
                    if (panels == 2)
                    {
                        Tiles<S, V, FloatLoader>.StridedR6P2(tile);
                    }
                    else
                    {
                        Tiles<S, V, FloatLoader>.StridedR6P1(tile);
                    }

                    break;
            }

            row += panels * Width;
            tile.B += panels * tile.PanelBytes;
            tile.C += panels * Width;
        }
    }

    private static void HalfScores(int keys, in Tile tile)
    {
        switch (keys)
        {
            case 1: Tiles<S, V, FloatLoader>.StridedR1H(tile); break;
            case 2: Tiles<S, V, FloatLoader>.StridedR2H(tile); break;
            case 4: Tiles<S, V, FloatLoader>.StridedR4H(tile); break;
            default: Tiles<S, V, FloatLoader>.StridedR8H(tile); break;
        }
    }

    // Keys that a row does not see get a score of −∞.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Hide(nint key, int count, int row)
    {
        nint visible = nint.Clamp(LastKey(row) + 1 - key, 0, count);
        nint hidden = nint.Clamp(FirstKey(row) - key, 0, count);
        for (nint i = 0; i < hidden; i++)
        {
            _scores[(i * PaddedRows) + row] = float.NegativeInfinity;
        }

        for (nint i = visible; i < count; i++)
        {
            _scores[(i * PaddedRows) + row] = float.NegativeInfinity;
        }
    }

    // One step of the online softmax for a vector of rows: scores become weights relative to the largest score so far.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Softmax(int count, int row)
    {
        nint stride = PaddedRows;
        float* scores = _scores + row;
        V old = S.Load(_largest + row), largest = old;
        for (nint i = 0; i < count; i++)
        {
            largest = S.Max(S.Load(scores + (i * stride)), largest);
        }

        // A row that has seen no key yet has nothing to shift by: −∞ − (−∞) would be NaN.
        V shift = S.IfLess(largest, S.Set(float.MinValue), S.Zero, largest);
        V correction = VectorMath<S, V>.Exp(S.Subtract(old, shift));
        V total = S.Multiply(S.Load(_total + row), correction);
        for (nint i = 0; i < count; i++)
        {
            V weight = VectorMath<S, V>.Exp(S.Subtract(S.Load(scores + (i * stride)), shift));
            S.Store(weight, scores + (i * stride));
            total = S.Add(total, weight);
        }

        S.Store(largest, _largest + row);
        S.Store(total, _total + row);
        S.Store(correction, _correction + row);
    }

    // sums[row] += Σ weight·value. The tile takes the keys that all its rows see; the rest go one by one, because a weight of 0
    // would still carry a NaN or infinity of a value that the row must not see.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Weigh(nint key, int count, int row, int rows)
    {
        nint from = nint.Clamp(FirstKey(row + rows - 1) - key, 0, count);
        nint to = nint.Clamp(LastKey(row) + 1 - key, from, count);
        WeighTile(from, to, row, rows);
        for (int i = row; i < row + rows; i++)
        {
            nint end = nint.Clamp(LastKey(i) + 1 - key, 0, count);
            WeighKeys(i, nint.Clamp(FirstKey(i) - key, 0, count), nint.Min(from, end));
            WeighKeys(i, to, end);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void WeighKeys(int row, nint from, nint to)
    {
        for (nint i = from; i < to; i++)
        {
            Reduce<S, V>.AddScaled(_values + (i * Dim), _scores[(i * PaddedRows) + row], _sums + (row * Dim), Dim);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void WeighTile(nint from, nint to, int row, int rows)
    {
        int width = Gemm<S, V>.PanelWidth;
        nint whole = Dim / width * width;
        int kernelRows = Gemm<S, V>.KernelRows(rows);
        Tile tile = new()
        {
            Depth = to - from, AStep = PaddedRows, A = _scores + (from * PaddedRows) + row, BStep = Dim * sizeof(float),
            PanelBytes = width * sizeof(float), CStride = Dim, StartStride = Dim,
        };
        for (nint j = 0; j < whole && from < to;)
        {
            int panels = Gemm<S, V>.KernelPanels(kernelRows, (whole - j) / width);
            tile.B = (byte*)(_values + (from * Dim) + j);
            tile.C = tile.Start = _sums + (row * Dim) + j;
            Gemm<S, V>.RunTile<FloatLoader>(kernelRows, panels, rows, whole - j, tile);
            j += panels * width;
        }

        // A head size that is not a whole number of panels: its last columns.
        for (int i = row; whole < Dim && i < row + rows; i++)
        {
            for (nint k = from; k < to; k++)
            {
                float weight = _scores[(k * PaddedRows) + i];
                Reduce<S, V>.AddScaled(_values + (k * Dim) + whole, weight, _sums + (i * Dim) + whole, Dim - whole);
            }
        }
    }
}
