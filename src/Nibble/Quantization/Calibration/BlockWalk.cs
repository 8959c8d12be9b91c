using Nibble.Backends;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>
/// Batches on their way through one block. The passes of some of them stop in front of a layer and go on from there once it has been
/// replaced, which takes memory for their intermediates; the others start over each time. Both give the same numbers.
/// </summary>
internal sealed class BlockWalk : IDisposable
{
    private readonly Block _block;
    private readonly IReadOnlyList<SampleBatch> _batches;
    private readonly Workspace _shared;
    private readonly List<Halted> _halted = [];

    /// <summary>Puts the batches in front of the block.</summary>
    /// <param name="block">The block.</param>
    /// <param name="batches">The batches; their hidden states become the block's outputs in <see cref="Finish"/>.</param>
    /// <param name="own">A workspace for each of the batches (the first ones) whose passes stop and go on.</param>
    /// <param name="shared">The workspace of all others.</param>
    public BlockWalk(Block block, IReadOnlyList<SampleBatch> batches, IReadOnlyList<Workspace> own, Workspace shared)
    {
        (_block, _batches, _shared) = (block, batches, shared);
        foreach ((SampleBatch batch, Workspace workspace) in batches.Zip(own))
        {
            _halted.Add(new Halted(block, batch, workspace));
        }
    }

    /// <summary>Shows an input of the block's layers (an index of <see cref="Block.Inputs"/>; none twice, and in their order) batch by batch.</summary>
    public void Visit(int input, Action<Tensor> seen)
    {
        for (int i = 0; i < _batches.Count; i++)
        {
            if (i < _halted.Count)
            {
                seen(_halted[i].To(input));
            }
            else
            {
                Replay(_batches[i], input, (index, x) =>
                {
                    if (index == input)
                    {
                        seen(x);
                    }
                });
            }
        }
    }

    /// <summary>Shows all inputs up to the last one that is asked for in one pass, which leaves the hidden states as they are.</summary>
    public void Peek(int last, Action<int, Tensor> seen)
    {
        foreach (SampleBatch batch in _batches)
        {
            Replay(batch, last, seen);
        }
    }

    /// <summary>Takes all batches to the end of the block.</summary>
    public void Finish()
    {
        foreach (Halted pass in _halted)
        {
            pass.Finish();
        }

        foreach (SampleBatch batch in _batches.Skip(_halted.Count))
        {
            using Workspace.Scope scope = _shared.Begin();
            Tensor opened = batch.Open(_shared);
            foreach (Tensor input in _block.Steps(opened, batch.Pass))
            {
                // Step by step, as passes that stop on the way: a block may have a shorter way that gives other bits.
            }

            batch.Close(opened);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _halted.ForEach(pass => pass.Dispose());

    private void Replay(SampleBatch batch, int last, Action<int, Tensor> seen)
    {
        using Workspace.Scope scope = _shared.Begin();
        Tensor copy = batch.Open(_shared);
        if (copy == batch.Hidden)
        {
            copy = _shared.Rent(batch.Hidden.Shape);
            batch.Pass.Backend.Gradients.Copy(batch.Hidden, copy);
        }

        int index = 0;
        foreach (Tensor x in _block.Steps(copy, batch.Pass with { Workspace = _shared }))
        {
            seen(index, x);
            if (index++ == last)
            {
                // Nothing behind this input is asked for: the rest of the block need not run.
                return;
            }
        }
    }

    /// <summary>A pass that stands in front of a layer.</summary>
    private sealed class Halted : IDisposable
    {
        private readonly Workspace.Scope _scope;
        private readonly IEnumerator<Tensor> _steps;
        private readonly SampleBatch _batch;
        private readonly Tensor _opened;
        private int _next;

        public Halted(Block block, SampleBatch batch, Workspace workspace)
        {
            _scope = workspace.Begin();
            (_batch, _opened) = (batch, batch.Open(workspace));
            _steps = block.Steps(_opened, batch.Pass with { Workspace = workspace }).GetEnumerator();
        }

        public Tensor To(int input)
        {
            while (_next <= input && _steps.MoveNext())
            {
                _next++;
            }

            return _steps.Current;
        }

        public void Finish()
        {
            while (_steps.MoveNext())
            {
                // Nobody looks at the inputs that are left.
            }

            _batch.Close(_opened);
        }

        public void Dispose()
        {
            _steps.Dispose();
            _scope.Dispose();
        }
    }
}
