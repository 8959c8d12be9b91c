using System.Buffers;
using System.Net;
using System.Net.Http.Headers;
using Nibble.Data.Sources;
using Nibble.IO;

namespace Nibble.Data.Remote;

/// <summary>
/// An object behind HTTP, read by ranges. A stream that breaks goes on at the byte where it stopped, as long as the object is the same
/// one (its ETag): never a mixture of two versions.
/// </summary>
internal sealed class HttpObject : DataObject
{
    private readonly RemoteClient _client;
    private readonly Uri _address;
    private readonly string? _tag;
    private Uri _place;

    private HttpObject(RemoteClient client, Uri address, Uri place, string name, long length, string? tag) =>
        (_client, _address, _place, Name, Length, _tag) = (client, address, place, name, length, tag);

    public override string Name { get; }

    public override long Length { get; }

    /// <summary>Asks for an object's length; null if there is none.</summary>
    /// <exception cref="NibbleException">It is refused, can't be reached, or can't be read by ranges.</exception>
    public static HttpObject? Find(RemoteClient client, Uri address, string name)
    {
        using HttpResponseMessage response = client.Send(HttpMethod.Get, address, name, request => request.Headers.Range = new RangeHeaderValue(0, 0));
        if (response.StatusCode == HttpStatusCode.NotFound)
        {
            return null;
        }

        // An empty object has no first byte; a server without ranges sends all of it.
        long? length = response.StatusCode switch
        {
            HttpStatusCode.PartialContent => response.Content.Headers.ContentRange?.Length,
            HttpStatusCode.RequestedRangeNotSatisfiable => response.Content.Headers.ContentRange?.Length ?? 0,
            _ => response.Content.Headers.ContentLength,
        };
        if (length is null || (response.StatusCode == HttpStatusCode.OK && length > 0 && response.Headers.AcceptRanges.Contains("none")))
        {
            Throw.Failed($"{name} can't be read by ranges", "the server tells no length", "download the file and name it instead");
        }

        return new HttpObject(client, address, response.RequestMessage?.RequestUri ?? address, name, length!.Value, response.Headers.ETag?.Tag);
    }

    public override Stream Open(long from = 0) => new RangeStream(this, from);

    /// <summary>Starts to read at a byte.</summary>
    private (HttpResponseMessage Response, Stream Body) Request(long from, long? to)
    {
        HttpResponseMessage response = Ask(from, to, mayBeRefused: _place != _address);
        if (RemoteClient.IsRefusal(response.StatusCode))
        {
            response.Dispose();
            // Links to other servers expire (the Hub's after an hour): the address says where it is now.
            HttpObject? again = Find(_client, _address, Name);
            Require(again is not null && again.Length == Length && again._tag == _tag);
            _place = again!._place;
            response = Ask(from, to, mayBeRefused: false);
        }

        if (response.StatusCode is HttpStatusCode.PreconditionFailed or HttpStatusCode.NotFound || (_tag is not null && response.Headers.ETag is { } now && now.Tag != _tag))
        {
            response.Dispose();
            Require(false);
        }

        Stream body = response.Content.ReadAsStream();
        if (response.StatusCode == HttpStatusCode.OK)
        {
            // The server knows no ranges: what stands before is read and dropped.
            Skip(body, from);
        }
        else if (response.Content.Headers.ContentRange is { From: { } start } && start != from)
        {
            response.Dispose();
            Throw.Failed($"{Name}: the server sent another range than was asked for", $"byte {from:N0} was asked for, byte {start:N0} came", "download the file and name it instead");
        }

        return (response, body);
    }

    /// <summary>Asks directly where the address led to, without credentials that are for another server.</summary>
    private HttpResponseMessage Ask(long from, long? to, bool mayBeRefused)
    {
        Uri place = _place;
        return _client.For(place, _address).Send(
            HttpMethod.Get, place, Name,
            request =>
            {
                request.Headers.Range = new RangeHeaderValue(from, to);
                if (_tag is not null)
                {
                    request.Headers.TryAddWithoutValidation("If-Match", _tag);
                }
            },
            mayBeRefused);
    }

    private void Require(bool isTheSame)
    {
        if (!isTheSame)
        {
            Throw.Failed($"{Name} was changed while it was read", "its version is another one now", "run again");
        }
    }

    private void Skip(Stream body, long count)
    {
        byte[] buffer = new byte[1 << 16];
        while (count > 0)
        {
            int read = body.Read(buffer, 0, (int)Math.Min(count, buffer.Length));
            if (read == 0)
            {
                Throw.BadInput($"{Name} ends early", "it is shorter than the server said", "run again");
            }

            count -= read;
        }
    }

    public override void ReadAt(long offset, Span<byte> into)
    {
        using RangeStream stream = new(this, offset, offset + into.Length - 1);
        int read = into.Length == 0 ? 0 : stream.ReadAtLeast(into, into.Length, throwOnEndOfStream: false);
        if (read < into.Length)
        {
            Throw.BadInput($"{Name} ends early", $"{into.Length:N0} bytes at {offset:N0} were asked for, {read:N0} came", "run again");
        }
    }

    /// <summary>The object from a byte on; goes on by itself where a connection breaks.</summary>
    private sealed class RangeStream(HttpObject source, long from, long? to = null) : Stream
    {
        private (HttpResponseMessage Response, Stream Body)? _open;
        private long _at = from;
        private int _failures;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => _at; set => throw new NotSupportedException(); }

        private long End => to is { } last ? Math.Min(last + 1, source.Length) : source.Length;

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override int Read(Span<byte> buffer)
        {
            while (buffer.Length > 0 && _at < End)
            {
                Exception? broken = null;
                int read = 0;
                try
                {
                    _open ??= source.Request(_at, to);
                    read = ReadPatiently(_open.Value.Body, buffer[..(int)Math.Min(buffer.Length, End - _at)]);
                }
                catch (Exception error) when (error is IOException or HttpRequestException or OperationCanceledException)
                {
                    broken = error;
                }

                if (read > 0)
                {
                    _at += read;
                    _failures = 0;
                    return read;
                }

                Drop();
                source._client.Pause(++_failures, source.Name, broken?.Message ?? $"the connection ended after {_at:N0} of {End:N0} bytes", broken, null);
            }

            return 0;
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            Drop();
            base.Dispose(disposing);
        }

        // A connection can fall silent without an end, and a blocking read of it has no limit of time.
        private int ReadPatiently(Stream body, Span<byte> into)
        {
            byte[] rented = ArrayPool<byte>.Shared.Rent(Math.Min(into.Length, 1 << 20));
            try
            {
                using CancellationTokenSource limit = new(source._client.Patience);
                int read = body.ReadAsync(rented.AsMemory(0, Math.Min(into.Length, rented.Length)), limit.Token).AsTask().GetAwaiter().GetResult();
                rented.AsSpan(0, read).CopyTo(into);
                return read;
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(rented);
            }
        }

        private void Drop()
        {
            _open?.Response.Dispose();
            _open = null;
        }
    }
}
