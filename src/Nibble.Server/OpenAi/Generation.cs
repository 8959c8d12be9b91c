using System.Diagnostics;
using System.Globalization;
using System.Threading.Channels;
using Microsoft.AspNetCore.Http;

namespace Nibble.Server.OpenAi;

/// <summary>One request from its sequences to the end of its answer.</summary>
internal sealed class Generation(Scheduler scheduler, ServeOptions options)
{
    /// <summary>Answers with a document or a stream. A client that goes away ends its generation.</summary>
    public async Task Answer(HttpContext context, IReadOnlyList<Sequence> sequences, SamplingFields sampling, IAnswerForm form)
    {
        long start = Stopwatch.GetTimestamp();
        CancellationToken gone = context.RequestAborted;
        ChannelReader<Piece> pieces = scheduler.Submit(sequences, gone);
        Counter counter = new(sequences, sampling.Choices);
        try
        {
            if (sampling.Stream)
            {
                await Stream(context.Response, pieces, sampling.IncludeUsage, form, counter, gone);
            }
            else
            {
                await foreach (Piece piece in pieces.ReadAllAsync(gone))
                {
                    counter.Add(piece);
                    _ = form.Add(piece).Count();
                }

                await Json.Write(context.Response, StatusCodes.Status200OK, form.Whole(counter.Usage));
            }

            Log(form, counter, start, string.Empty);
        }
        catch (OperationCanceledException) when (gone.IsCancellationRequested)
        {
            Log(form, counter, start, ", the client went away");
        }
    }

    private static async Task Stream(HttpResponse response, ChannelReader<Piece> pieces, bool usage, IAnswerForm form, Counter counter, CancellationToken gone)
    {
        EventStream events = new(response);
        await events.Begin(gone);
        try
        {
            Write(form.Begin());
            await events.Flush(gone);
            while (await pieces.WaitToReadAsync(gone))
            {
                // What is there goes out together.
                while (pieces.TryRead(out Piece piece))
                {
                    counter.Add(piece);
                    Write(form.Add(piece));
                }

                await events.Flush(gone);
            }

            if (usage)
            {
                events.Write(form.Last(counter.Usage));
            }

            await events.End(gone);
        }
        catch (Exception error) when (!gone.IsCancellationRequested)
        {
            // The status is long sent: clients look for this.
            events.Write(ApiException.Of(error).Document);
            await events.Flush(gone);
        }

        void Write(IEnumerable<object> documents)
        {
            foreach (object document in documents)
            {
                events.Write(document);
            }
        }
    }

    private void Log(IAnswerForm form, Counter counter, long start, string end)
    {
        Usage usage = counter.Usage;
        options.Log?.Invoke(string.Create(
            CultureInfo.InvariantCulture,
            $"{DateTime.Now:HH:mm:ss} {form.Kind}: {usage.PromptTokens:N0} tokens ({usage.PromptTokensDetails.CachedTokens:N0} kept), {usage.CompletionTokens:N0} new in {Stopwatch.GetElapsedTime(start).TotalSeconds:F1} s{end}"));
    }

    /// <summary>Counts tokens. Prompts count once, however many choices continue them.</summary>
    private sealed class Counter(IReadOnlyList<Sequence> sequences, int choices)
    {
        private readonly int[] _cached = new int[sequences.Count / choices];
        private int _new;

        public Usage Usage
        {
            get
            {
                int prompts = sequences.Where((_, i) => i % choices == 0).Sum(sequence => sequence.Prompt.Length);
                return new Usage(prompts, _new, prompts + _new, new PromptDetails(_cached.Sum()));
            }
        }

        public void Add(Piece piece)
        {
            _new++;
            if (piece.Index % choices == 0)
            {
                _cached[piece.Index / choices] = piece.CachedTokens;
            }
        }
    }
}
