using Nibble.Backends;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// Runs each kernel and records how its gradient flows. What does not depend on a parameter is not recorded: below the first
/// adapter of a model nothing runs backward.
/// </summary>
internal sealed partial class RecordingKernels(IBackend backend, Tape tape, ParameterSet parameters) : IKernels
{
    private readonly IKernels _kernels = backend.Kernels;
    private readonly IGradientKernels _gradients = backend.Gradients;

    public void MatMul(Tensor x, IPackedWeight w, Tensor? bias, Tensor y)
    {
        Parameter? weight = parameters.Find(w), shift = parameters.Find(bias);
        bool flows = Starts(y, x, weight, shift, out bool active);
        Tape.Saved[] saved = flows && weight is not null ? [tape.Save(x)] : [];
        Tape.GeluInput? gelu = active ? tape.GeluOf(x) : null;
        tape.Overwrite(y);
        if (!tape.IsUnread(y))
        {
            _kernels.MatMul(x, w, bias, y);
        }

        if (!flows)
        {
            return;
        }

        tape.Record(
            y,
            dy =>
            {
                if (shift is not null)
                {
                    _gradients.SumRows(dy, shift.Gradient);
                }

                MatMulBackward(dy, w, weight, saved, active ? x : null, gelu);
            },
            saved: saved);
    }

    public void MatMulScaled(Tensor x, IPackedWeight w, float factor, Tensor y)
    {
        Parameter? weight = parameters.Find(w);
        bool flows = Starts(y, x, weight, null, out bool active);
        Tape.Saved[] saved = flows && weight is not null ? [tape.Save(x)] : [];
        Tape.GeluInput? gelu = active ? tape.GeluOf(x) : null;
        tape.Overwrite(y);
        _kernels.MatMulScaled(x, w, factor, y);
        if (flows)
        {
            tape.Record(
                y,
                dy =>
                {
                    _kernels.Scale(dy, factor);
                    MatMulBackward(dy, w, weight, saved, active ? x : null, gelu);
                },
                saved: saved);
        }
    }

    public void MatMulAdd(Tensor x, IPackedWeight w, Tensor y)
    {
        Parameter? weight = parameters.Find(w);
        bool before = tape.IsActive(y);
        bool flows = tape.IsRecording && (tape.IsActive(x) || weight is not null);
        bool active = tape.IsActive(x);
        Tape.Saved[] saved = flows && weight is not null ? [tape.Save(x)] : [];
        Tape.GeluInput? gelu = active ? tape.GeluOf(x) : null;
        tape.Overwrite(y);
        if (!tape.IsUnread(y))
        {
            _kernels.MatMulAdd(x, w, y);
        }

        if (flows)
        {
            tape.Record(y, dy => MatMulBackward(dy, w, weight, saved, active ? x : null, gelu), added: before, saved);
        }
    }

    public void MatMulAdd(Tensor x, IPackedWeight w, Tensor? bias, Tensor y)
    {
        Parameter? weight = parameters.Find(w), shift = parameters.Find(bias);
        bool before = tape.IsActive(y), active = tape.IsActive(x);
        bool flows = tape.IsRecording && (active || weight is not null || shift is not null);
        Tape.Saved[] saved = flows && weight is not null ? [tape.Save(x)] : [];
        Tape.GeluInput? gelu = active ? tape.GeluOf(x) : null;
        tape.Overwrite(y);
        if (!tape.IsUnread(y))
        {
            _kernels.MatMulAdd(x, w, bias, y);
        }

        if (!flows)
        {
            return;
        }

        tape.WishCopy(y, x.DType, sums: shift is not null);
        tape.Record(
            y,
            dy =>
            {
                GradientCopy copy = RoundedGradient(y, dy, x.DType);
                if (shift is not null)
                {
                    AddSums(copy, shift);
                }

                MatMulBackward(copy.Rounded, w, weight, saved, active ? x : null, gelu);
                tape.Return(copy);
            },
            added: before,
            saved);
    }

    private void AddSums(GradientCopy copy, Parameter shift)
    {
        if (copy.Sums is { } sums)
        {
            _kernels.Add(sums, shift.Gradient);
        }
        else
        {
            _gradients.SumRows(copy.Rounded, shift.Gradient);
        }
    }

    // Rounded once, not by each of the products that read it; the op behind may have done it already.
    private GradientCopy RoundedGradient(Tensor y, Tensor dy, DType dtype)
    {
        if (tape.TakeCopy(y) is { } copy)
        {
            if (copy.Rounded.DType == dtype)
            {
                return copy;
            }

            tape.Return(copy);
        }

        Tensor rounded = tape.Rent(dy.Shape, dtype);
        _gradients.Copy(dy, rounded);
        return new GradientCopy(rounded, null);
    }

    public void Gather(IPackedWeight table, Tensor ids, Tensor y)
    {
        Parameter? rows = parameters.Find(table);
        tape.Overwrite(y);
        _kernels.Gather(table, ids, y);
        if (rows is null || !tape.IsRecording)
        {
            tape.Passive(y);
            return;
        }

        tape.Record(y, dy => _gradients.Gather(dy, ids, rows.Weight!, parameters.Settled(rows, _gradients)));
    }

    public void GatherSome(IPackedWeight table, Tensor ids, Tensor y)
    {
        // The rows that stay keep their gradient; a table that is no parameter changes nothing about it.
        Parameter? rows = parameters.Find(table);
        bool before = tape.IsActive(y);
        tape.Overwrite(y);
        _kernels.GatherSome(table, ids, y);
        if (rows is not null && tape.IsRecording)
        {
            tape.Record(y, dy => _gradients.Gather(dy, ids, rows.Weight!, parameters.Settled(rows, _gradients)), added: before);
        }
        else if (!before)
        {
            tape.Passive(y);
        }
    }

    public void Rope(Tensor x, Tensor positions, Tensor cos, Tensor sin)
    {
        tape.Overwrite(x);
        _kernels.Rope(x, positions, cos, sin);
        if (tape.IsRecording && tape.IsActive(x))
        {
            tape.RecordInPlace(x, x, d => _gradients.Rope(d, positions, cos, sin));
        }
    }

    public void AppendToCache(Tensor x, Tensor cache, int start)
    {
        bool flows = tape.IsRecording && tape.IsActive(x);
        bool whole = start == 0 && x.Shape.Count == cache.Shape.Count;
        bool before = tape.IsActive(cache) && !whole;
        tape.Overwrite(cache);
        _kernels.AppendToCache(x, cache, start);
        if (flows)
        {
            tape.Record(
                cache,
                d =>
                {
                    if (tape.OpenFresh(x, out Tensor dx))
                    {
                        _gradients.AppendToCacheInto(d, start, dx);
                    }
                    else
                    {
                        _gradients.AppendToCache(d, start, dx);
                    }
                },
                added: before);
        }
        else if (!before)
        {
            tape.Passive(cache);
        }
    }

    public void Attention(in AttentionArguments arguments)
    {
        AttentionArguments a = arguments;
        (bool query, bool keys, bool values) = (tape.IsActive(a.Query), tape.IsActive(a.Keys), tape.IsActive(a.Values));
        bool flows = tape.IsRecording && (query || keys || values);
        Tape.Saved[] saved = flows ? [tape.Save(a.Query), tape.Save(a.Keys), tape.Save(a.Values)] : [];
        Tensor? sums = flows && a.Query.DType == DType.BF16 ? tape.Rent(new Shape(a.Query.Shape[0], a.Query.Shape[1])) : null;
        tape.Overwrite(a.Output);
        _kernels.Attention(a with { LogSums = sums });
        if (!flows)
        {
            tape.Passive(a.Output);
            return;
        }

        if (sums is not null)
        {
            saved = [.. saved, tape.Save(a.Output)];
        }

        tape.Record(
            a.Output,
            dy =>
            {
                AttentionBackward(
                    a with { Query = saved[0].Value, Keys = saved[1].Value, Values = saved[2].Value, Output = saved[^1].Value, LogSums = sums },
                    (a.Query, query), (a.Keys, keys), (a.Values, values), dy);
                if (sums is not null)
                {
                    tape.Return(sums);
                }
            },
            saved: saved);
    }

    public bool AttendsRows => _kernels.AttendsRows;

    public void AttendRows(in RowAttentionArguments arguments)
    {
        RowAttentionArguments a = arguments;
        Tensor[] places = ReferenceEquals(a.Query, a.Keys) ? [a.Query] : [a.Query, a.Keys, a.Values];
        bool[] active = [.. places.Select(tape.IsActive)];
        bool flows = tape.IsRecording && active.Any(one => one);
        Tape.Saved[] saved = flows ? [.. places.Select(tape.Save)] : [];
        Tensor? sums = flows ? tape.Rent(new Shape(a.Output.Shape.Rows, a.Heads)) : null;
        tape.Overwrite(a.Output);
        _kernels.AttendRows(a with { LogSums = sums });
        if (!flows)
        {
            tape.Passive(a.Output);
            return;
        }

        saved = [.. saved, tape.Save(a.Output)];
        tape.Record(a.Output, dy => AttendRowsBackward(a with { LogSums = sums, Output = saved[^1].Value }, dy, places, active, saved), saved: saved);
    }

    public void Gelu(Tensor x, GeluKind kind, Tensor y)
    {
        bool flows = Starts(y, x, null, null, out _);
        Tape.Saved[] saved = flows ? [tape.Save(x)] : [];
        tape.Overwrite(y);
        _kernels.Gelu(x, kind, y);
        if (flows)
        {
            tape.RecordInPlace(x, y, d => _gradients.Gelu(saved[0].Value, kind, d), saved);
            tape.Derive(y, again => _kernels.Gelu(saved[0].Value, kind, again));
            tape.NoteGelu(y, new Tape.GeluInput(x, saved[0], kind));
        }
    }

    public void SwiGlu(Tensor gate, Tensor up, Tensor y) => Gate(gate, up, y, _kernels.SwiGlu, _gradients.SwiGlu);

    public void SquaredReluGate(Tensor gate, Tensor up, Tensor y) => Gate(gate, up, y, _kernels.SquaredReluGate, _gradients.SquaredReluGate);

    public void Add(Tensor x, Tensor y)
    {
        bool flows = tape.IsRecording && tape.IsActive(x);
        bool before = tape.IsActive(y);
        tape.Overwrite(y);
        if (!tape.IsUnread(y))
        {
            _kernels.Add(x, y);
        }

        if (!flows)
        {
            return;
        }

        if (x.DType != y.DType)
        {
            tape.WishCopy(y, x.DType, sums: false);
        }

        tape.Record(y, dy => AddBackward(x, y, dy), added: before);
    }

    private void AddBackward(Tensor x, Tensor y, Tensor dy)
    {
        if (x.DType != y.DType)
        {
            GradientCopy copy = RoundedGradient(y, dy, x.DType);
            tape.Give(x, copy.Rounded);
            if (copy.Sums is { } sums)
            {
                tape.Return(sums);
            }
        }
        else if (tape.OpenFresh(x, out Tensor dx))
        {
            _gradients.Copy(dy, dx);
        }
        else
        {
            _kernels.Add(dy, dx);
        }
    }

    public void CopyColumns(Tensor x, nint first, Tensor y)
    {
        bool flows = Starts(y, x, null, null, out _);
        tape.Overwrite(y);
        _kernels.CopyColumns(x, first, y);
        if (flows)
        {
            tape.Record(
                y,
                dy =>
                {
                    if (tape.OpenFresh(x, out Tensor dx))
                    {
                        _gradients.CopyColumnsInto(dy, first, dx);
                    }
                    else
                    {
                        _gradients.CopyColumns(dy, first, dx);
                    }
                });
        }
    }

    public void Scale(Tensor x, float factor)
    {
        tape.Overwrite(x);
        _kernels.Scale(x, factor);
        if (tape.IsRecording && tape.IsActive(x))
        {
            tape.RecordInPlace(x, x, d => _kernels.Scale(d, factor));
        }
    }

    public void ScaleColumns(Tensor x, Tensor factor, Tensor? shift)
    {
        Parameter? trained = parameters.Find(factor), moved = parameters.Find(shift);
        bool flows = Starts(x, x, trained, moved, out _);
        Tape.Saved[] saved = flows && trained is not null ? [tape.Save(x)] : [];
        tape.Overwrite(x);
        _kernels.ScaleColumns(x, factor, shift);
        if (flows)
        {
            tape.RecordInPlace(
                x,
                x,
                d =>
                {
                    if (moved is not null)
                    {
                        _gradients.SumRows(d, moved.Gradient);
                    }

                    _gradients.ScaleColumns(trained is null ? null : saved[0].Value, factor, d, trained?.Gradient);
                },
                saved);
        }
    }

    public void Dropout(Tensor x, ulong key, float probability)
    {
        tape.Overwrite(x);
        _kernels.Dropout(x, key, probability);
        if (tape.IsRecording && tape.IsActive(x))
        {
            tape.RecordInPlace(x, x, d => _kernels.Dropout(d, key, probability));
        }
    }

    public void AddGram(Tensor x, double[] sum) => _kernels.AddGram(x, sum);

    /// <summary>Straight through: the gradient of what was rounded is that of what it was rounded from.</summary>
    public void RoundRows(Tensor x, float share)
    {
        tape.Overwrite(x);
        _kernels.RoundRows(x, share);
    }

    public void Softmax(Tensor x) => Throw.Argument("tape", "softmax has no backward: attention and cross-entropy have their own");

    public void LogLikelihood(
        Tensor hidden, IPackedWeight head, Tensor? bias, Tensor targets, Tensor logProbabilities, Tensor? best, Workspace workspace) =>
        Throw.Argument("tape", "the log-likelihood has no backward: train with cross-entropy");

    private void AttentionBackward(in AttentionArguments a, (Tensor Place, bool Active) query, (Tensor Place, bool Active) keys, (Tensor Place, bool Active) values, Tensor dy)
    {
        using Tape.Sink dQuery = tape.OpenWritten(query.Place, query.Active, out bool q), dKeys = tape.OpenWritten(keys.Place, keys.Active, out bool k);
        using Tape.Sink dValues = tape.OpenWritten(values.Place, values.Active, out bool v);
        if (q && k && v)
        {
            _gradients.AttentionInto(a, dy, dQuery.Gradient, dKeys.Gradient, dValues.Gradient);
            return;
        }

        foreach ((bool fresh, Tensor gradient) in new[] { (q, dQuery.Gradient), (k, dKeys.Gradient), (v, dValues.Gradient) })
        {
            if (fresh)
            {
                _gradients.Fill(gradient, 0);
            }
        }

        _gradients.Attention(a, dy, dQuery.Gradient, dKeys.Gradient, dValues.Gradient);
    }

    private void AttendRowsBackward(in RowAttentionArguments a, Tensor dy, Tensor[] places, bool[] active, Tape.Saved[] saved)
    {
        Tensor[] gradients = [.. places.Select(place => tape.Rent(place.Shape, place.DType))];
        int keys = places.Length == 1 ? 0 : 1, values = places.Length == 1 ? 0 : 2;
        _gradients.AttendRows(
            a with { Query = saved[0].Value, Keys = saved[keys].Value, Values = saved[values].Value }, dy, gradients[0], gradients[keys], gradients[values]);
        tape.Return(a.LogSums!);
        for (int i = 0; i < places.Length; i++)
        {
            tape.Give(places[i], gradients[i], active[i]);
        }
    }

    private void Gate(Tensor gate, Tensor up, Tensor y, Action<Tensor, Tensor, Tensor> forward, Action<Tensor, Tensor, Tensor, Tensor, Tensor> backward)
    {
        (bool gateActive, bool upActive) = (tape.IsActive(gate), tape.IsActive(up));
        bool flows = tape.IsRecording && (gateActive || upActive);
        Tape.Saved[] saved = flows ? [tape.Save(gate), tape.Save(up)] : [];
        tape.Overwrite(y);
        forward(gate, up, y);
        if (!flows)
        {
            tape.Passive(y);
            return;
        }

        tape.Record(
            y,
            dy =>
            {
                Tensor dGate = tape.Rent(gate.Shape, gate.DType), dUp = tape.Rent(up.Shape, up.DType);
                backward(saved[0].Value, saved[1].Value, dy, dGate, dUp);
                tape.Give(gate, dGate, gateActive);
                tape.Give(up, dUp, upActive);
            },
            saved: saved);
    }

    private void MatMulBackward(Tensor dy, IPackedWeight w, Parameter? weight, Tape.Saved[] saved, Tensor? x, Tape.GeluInput? gelu)
    {
        if (weight is not null)
        {
            parameters.AddProduct(weight, dy, saved[0].Value, _gradients);
        }

        if (x is not null && !ThroughGelu(dy, w, gelu))
        {
            if (tape.OpenFresh(x, out Tensor dx))
            {
                _gradients.MatMulInputInto(dy, w, dx);
            }
            else
            {
                _gradients.MatMulInput(dy, w, dx);
            }
        }
    }

    // Past the GELU's node, which finds no gradient, or that of other readers.
    private bool ThroughGelu(Tensor dy, IPackedWeight w, Tape.GeluInput? gelu)
    {
        if (gelu is not { } before || !_gradients.HasMatMulInputGelu(dy, w, before.Saved.Value, before.Kind))
        {
            return false;
        }

        Tensor dx = tape.Rent(before.Input.Shape, before.Input.DType);
        _gradients.MatMulInputGelu(dy, w, before.Saved.Value, before.Kind, dx);
        tape.Give(before.Input, dx);
        return true;
    }

    /// <summary>True if a gradient flows through an op from x to y; otherwise y is noted as independent of all parameters.</summary>
    private bool Starts(Tensor y, Tensor x, Parameter? first, Parameter? second, out bool active)
    {
        active = tape.IsActive(x);
        bool flows = tape.IsRecording && (active || first is not null || second is not null);
        if (!flows)
        {
            tape.Passive(y);
        }

        return flows;
    }
}
