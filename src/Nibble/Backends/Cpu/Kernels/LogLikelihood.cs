using Nibble.Backends.Cpu.BFloat16;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// log softmax(hidden·Wᵀ + bias)[target] per row, over blocks of the vocabulary with a running largest logit and a running sum of
/// exponentials, so that memory does not grow with the vocabulary.
/// </summary>
internal static unsafe class LogLikelihood<S, V>
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const int VocabularyBlock = 1024;
    private const int RowBlock = 512;

    public static void Run(
        CpuThreads threads, BFloat16Kernels? half, float* hidden, nint rows, CpuPacking head, float* bias, int* targets, float* result, int* best, Workspace workspace)
    {
        using Workspace.Scope scope = workspace.Begin();
        nint most = nint.Min(rows, RowBlock);
        Tensor logits = workspace.Rent(new Shape(most, VocabularyBlock));
        Tensor states = workspace.Rent(new Shape(most * sizeof(State)), DType.U8);
        for (nint row = 0; row < rows; row += most)
        {
            UpdateJob job = new()
            {
                Logits = (float*)logits.HostPointer,
                States = (State*)states.HostPointer,
                Targets = targets + row,
                Result = result + row,
                Best = best == null ? null : best + row,
                Vocabulary = head.Out,
            };
            nint count = nint.Min(most, rows - row);
            for (nint first = 0; first < head.Out; first += VocabularyBlock)
            {
                job.First = first;
                job.Count = nint.Min(VocabularyBlock, head.Out - first);
                head.MatMul(new CpuMatMul(
                    threads, (nint)(hidden + (row * head.In)), count, (nint)bias, (nint)job.Logits, VocabularyBlock, first, job.Count), half);
                job.Rows = count;
                threads.Run(job.Parts, job);
            }
        }
    }

    private struct State
    {
        public double Sum;
        public float Largest;
        public float Target;
        public int Best;
    }

    private struct UpdateJob : ICpuJob
    {
        private const int RowsPerPart = 8;
        public float* Logits, Result;
        public State* States;
        public int* Targets, Best;
        public nint First, Count, Vocabulary, Rows;

        public readonly int Parts => Kernels.Parts.Count(Rows, RowsPerPart);

        public readonly void Execute(int part)
        {
            nint end = nint.Min(Rows, (part + 1) * RowsPerPart);
            for (nint row = part * RowsPerPart; row < end; row++)
            {
                if (First == 0)
                {
                    States[row] = new State { Largest = float.NegativeInfinity };
                }

                Update(ref States[row], Logits + (row * VocabularyBlock), Targets[row]);
                if (First + Count == Vocabulary)
                {
                    Finish(States[row], row);
                }
            }
        }

        private readonly void Update(ref State state, float* logits, int target)
        {
            if (target >= First && target < First + Count)
            {
                state.Target = logits[target - First];
            }

            float largest = Reduce<S, V>.Largest(logits, Count);
            if (largest > state.Largest)
            {
                state.Sum *= state.Largest == float.NegativeInfinity ? 0 : Math.Exp((double)state.Largest - largest);
                state.Largest = largest;
                state.Best = (int)First + new ReadOnlySpan<float>(logits, (int)Count).IndexOf(largest);
            }

            // With no finite logit yet there is nothing to shift by; e^(−∞) adds 0 and NaN stays NaN.
            float shift = state.Largest == float.NegativeInfinity ? 0 : state.Largest;
            state.Sum += Reduce<S, V>.ExpAndSum(logits, shift, Count);
        }

        private readonly void Finish(in State state, nint row)
        {
            Result[row] = Targets[row] < 0 ? 0 : (float)(state.Target - (double)state.Largest - Math.Log(state.Sum));
            if (Best != null)
            {
                Best[row] = state.Best;
            }
        }
    }
}
